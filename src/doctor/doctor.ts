import type pg from 'pg'
import { createRowhouseError } from '../errors.ts'
import { loadSqlFiles } from '../migrate/sql-files.ts'
import type { Finding, FindingLevel } from './finding.ts'

export interface DoctorOptions {
  /** The role of requests. Default `rowhouse_app`. */
  readonly role?: string | undefined
  /** Tables without rows of tenants that every tenant may read, such as `['public.countries']`; as SQL names them. */
  readonly sharedTables?: readonly string[] | undefined
  /** Findings of lower levels are left out. Default `warning`. */
  readonly level?: FindingLevel | undefined
  /** Names of lints, and `cacheKey`s of single findings, that are known and accepted. */
  readonly ignore?: readonly string[] | undefined
}

const LEVELS: readonly FindingLevel[] = ['error', 'warning', 'info']

/** Runs the lints on a connection of the caller. Errors come first, then by table, so the list is the same each time. */
export async function runDoctor(
  client: pg.ClientBase,
  { role = 'rowhouse_app', sharedTables = [], level = 'warning', ignore = [] }: DoctorOptions = {},
): Promise<Finding[]> {
  if (!LEVELS.includes(level)) {
    throw createRowhouseError('invalid_argument', `The level is ${LEVELS.join(', ')}, not ${JSON.stringify(level)}.`)
  }
  await assertInspectable(client, role)
  const { rows } = await client.query<Finding>(
    `select name, level, title, "table", object, detail, mend, ramification, resolution, cache_key as "cacheKey"
      from rowhouse.doctor($1::name, $2::oid[]::regclass[], $3::jsonb)`,
    [role, await oidsOf(client, sharedTables), await shippedChecksums()],
  )
  const key = (finding: Finding) =>
    `${LEVELS.indexOf(finding.level)} ${finding.table ?? '~'} ${finding.name} ${finding.object}`
  return rows
    .filter((finding) => LEVELS.indexOf(finding.level) <= LEVELS.indexOf(level))
    .filter(({ name, cacheKey }) => !ignore.includes(name) && !ignore.includes(cacheKey))
    .sort((left, right) => (key(left) < key(right) ? -1 : 1))
}

let shipped: Promise<string> | undefined

/** Checksums of what this version of the package would apply, as JSON. */
function shippedChecksums(): Promise<string> {
  shipped ??= loadSqlFiles().then(({ bootstrap, functions }) =>
    JSON.stringify(Object.fromEntries([bootstrap, ...functions].map(({ file, checksum }) => [file, checksum]))),
  )
  return shipped
}

async function oidsOf(client: pg.ClientBase, tables: readonly string[]): Promise<number[]> {
  const { rows } = await client.query<{ given: string; oid: number | null }>(
    'select given, to_regclass(given)::oid as oid from unnest($1::text[]) given',
    [[...tables]],
  )
  const unknown = rows.filter(({ oid }) => oid === null).map(({ given }) => given)
  if (unknown.length > 0) throw createRowhouseError('invalid_argument', `There is no table ${unknown.join(', ')}.`)
  return rows.map(({ oid }) => oid!)
}

/** One sentence instead of an error about a missing function. */
export async function assertInspectable(client: pg.ClientBase, role: string): Promise<void> {
  const { rows } = await client.query<{ migrated: boolean; known: boolean; login: string }>(
    `select to_regprocedure('rowhouse.doctor(name, regclass[], jsonb)') is not null as migrated,
        exists (select from pg_roles where rolname = $1) as known, current_user as login`,
    [role],
  )
  const { migrated, known, login } = rows[0]!
  if (!migrated) {
    throw createRowhouseError('not_migrated', 'rowhouse, or this version of it, is not installed in this database.')
  }
  if (!known) throw createRowhouseError('invalid_argument', `There is no role ${JSON.stringify(role)}.`)
  const able = await client.query<{ able: boolean }>(
    "select has_function_privilege('rowhouse.doctor(name, regclass[], jsonb)', 'execute') as able",
  )
  if (!able.rows[0]!.able) {
    throw createRowhouseError('missing_privilege', `${login} may not look into the protection of tables.`, {
      hint: `Use the login that migrates, or: grant rowhouse_admin to "${login}".`,
    })
  }
}
