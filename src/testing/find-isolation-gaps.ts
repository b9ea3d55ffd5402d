import type pg from 'pg'
import { createRowhouseError } from '../errors.ts'
import { databaseGaps } from './database-gaps.ts'
import { type IsolationGap, sortGaps } from './isolation-gap.ts'
import { protectedTableGaps } from './protected-table-gaps.ts'
import { onTestConnection, type TestConnection } from './test-connection.ts'
import { sharedTableNames, unprotectedRelationGaps } from './unprotected-relation-gaps.ts'

export interface FindGapsOptions {
  /** The role of requests. Default `rowhouse_app`. */
  readonly role?: string | undefined
  /** Tables without rows of tenants that every tenant may read, such as `['public.countries']`; as SQL names them. */
  readonly sharedTables?: readonly string[] | undefined
}

/**
 * Reads the catalogs of a database for everything by which one tenant could reach another's rows, or learn about them:
 * tables, partitions and views without protection, weakened policies, keys and foreign keys without the tenant,
 * privileges that policies don't hold for, functions and roles that they don't hold for, a preset tenant. Nobody keeps
 * a list of tables: a new one that was forgotten is found.
 *
 * Changes nothing. The login needs to be a member of `rowhouse_admin`, as the one that migrates is.
 *
 * SQL: selects on `pg_class`, `pg_policy`, `pg_proc` and others, and `rowhouse.protection_findings(table, column)`.
 *
 * Errors: `not_migrated`, `missing_privilege`, `invalid_argument`.
 *
 * @example
 * ```ts
 * const gaps = await findIsolationGaps(connectionString, { sharedTables: ['public.countries'] })
 * if (gaps.length > 0) throw new Error(gaps.map((gap) => `${gap.object}: ${gap.detail}. ${gap.mend}`).join('\n'))
 * ```
 */
export async function findIsolationGaps(
  connection: TestConnection,
  { role = 'rowhouse_app', sharedTables = [] }: FindGapsOptions = {},
): Promise<IsolationGap[]> {
  return onTestConnection(connection, async (client) => {
    await assertUsable(client, role)
    const shared = await sharedTableNames(client, sharedTables)
    return withPlainSettings(client, async () => {
      const gaps = [
        ...(await protectedTableGaps(client, role)),
        ...(await unprotectedRelationGaps(client, role, shared)),
        ...(await databaseGaps(client, role)),
      ]
      return sortGaps(withoutRepetitions(gaps))
    })
  })
}

/** Both the report of protect_table and a check of our own may see the same thing. */
function withoutRepetitions(gaps: readonly IsolationGap[]): IsolationGap[] {
  return [...new Map(gaps.map((gap) => [`${gap.kind} ${gap.object}`, gap])).values()]
}

/** Names are printed with their schema, whatever the search path of the caller is, and nothing is compiled for them. */
async function withPlainSettings<T>(client: pg.ClientBase, fn: () => Promise<T>): Promise<T> {
  const { rows } = await client.query<{ path: string; jit: string }>(
    "select current_setting('search_path') as path, current_setting('jit') as jit",
  )
  const { path, jit } = rows[0]!
  await client.query('set search_path = pg_catalog, pg_temp; set jit = off')
  try {
    return await fn()
  } finally {
    // Fails in a transaction that has failed, which undoes the settings anyway.
    await client.query(`set search_path = ${path === '""' ? "''" : path}; set jit = ${jit}`).catch(() => {})
  }
}

/** One sentence instead of an error about a missing relation. */
export async function assertUsable(client: pg.ClientBase, role: string): Promise<void> {
  const { rows } = await client.query<{ migrated: boolean; known: boolean; login: string }>(
    `select to_regprocedure('rowhouse.protection_findings(regclass, name)') is not null as migrated,
        exists (select from pg_roles where rolname = $1) as known, current_user as login`,
    [role],
  )
  const { migrated, known, login } = rows[0]!
  if (!migrated) throw createRowhouseError('not_migrated', 'rowhouse is not installed in this database.')
  if (!known) throw createRowhouseError('invalid_argument', `There is no role ${JSON.stringify(role)}.`)
  const able = await client.query<{ able: boolean }>(
    "select has_function_privilege('rowhouse.protection_findings(regclass, name)', 'execute') as able",
  )
  if (!able.rows[0]!.able) {
    throw createRowhouseError('missing_privilege', `${login} may not look into the protection of tables.`, {
      hint: `Use the login that migrates, or: grant rowhouse_admin to "${login}".`,
    })
  }
}
