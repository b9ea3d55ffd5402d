import { createHash } from 'node:crypto'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type pg from 'pg'
import { migrate } from '../../src/migrate/migrate.ts'
import { withClient, withParts } from './connection.ts'
import type { Urls } from './engine.ts'
import { adoptRoles, grantRoles } from './logins.ts'

/** Names of all databases of the tests begin with it. */
export const DATABASE_PREFIX = 'rowhouse_test_'
/** Key of the session advisory lock of those who make the template. */
const TEMPLATE_LOCK = 0x726f7774
/** Comment of a template that has the extension. */
const WITH_VECTOR = 'Template of the tests of rowhouse, with pgvector'

/** A migrated database, to be copied. */
export interface Template {
  readonly database: string
  readonly pgvector: boolean
}

/**
 * Names the template for the SQL as it is now, and makes it if it isn't there: the ordinary owner migrates it, once
 * per state of the SQL. Throws what the migration throws.
 */
export async function ensureTemplate(urls: Urls): Promise<Template> {
  const database = templateName(urls)
  return withClient(urls.superuser ?? urls.owner, async (client) => {
    const found = await findTemplate(client, database)
    if (found !== undefined) return found
    // Released at the end of the session.
    await client.query('select pg_advisory_lock($1)', [TEMPLATE_LOCK])
    return (await findTemplate(client, database)) ?? makeTemplate(client, urls, database)
  })
}

/** Different for every owner, and every state of the SQL and of the code that installs it. */
export function templateName(urls: Urls): string {
  return `${DATABASE_PREFIX}template_${sourceHash(new URL(urls.owner).username)}`
}

/** Changes with the SQL and the code that installs it. */
export function sourceHash(salt = ''): string {
  const root = join(import.meta.dirname, '../..')
  const hash = createHash('sha256').update(salt)
  for (const file of globSync(['sql/**/*.sql', 'src/migrate/**/*.ts'], { cwd: root }).sort()) {
    hash.update(`${file}\n`).update(readFileSync(join(root, file)))
  }
  return hash.digest('hex').slice(0, 12)
}

async function findTemplate(client: pg.Client, database: string): Promise<Template | undefined> {
  const { rows } = await client.query<{ comment: string | null }>(
    "select shobj_description(oid, 'pg_database') as comment from pg_database where datname = $1",
    [database],
  )
  return rows[0] && { database, pgvector: rows[0].comment === WITH_VECTOR }
}

async function makeTemplate(client: pg.Client, urls: Urls, database: string): Promise<Template> {
  // Under another name until it is complete.
  const unfinished = `${database}_new`
  await client.query(`drop database if exists ${unfinished} with (force)`)
  await adoptRoles(client, urls)
  return withClient(urls.owner, async (owner) => {
    await owner.query(`create database ${unfinished}`)
    const creator = withParts(urls.superuser ?? urls.owner, { database: unfinished })
    // Where it can't be created, tests that need it are skipped.
    const create = (session: pg.Client) => session.query('create extension vector')
    const pgvector = await withClient(creator, create).then(
      () => true,
      () => false,
    )
    if (pgvector) await owner.query(`comment on database ${unfinished} is '${WITH_VECTOR}'`)
    await migrate({ connectionString: withParts(urls.owner, { database: unfinished }) })
    await grantRoles(client)
    // Nobody can be connected to it, so it can be copied at any time, by many at once.
    await owner.query(`alter database ${unfinished} allow_connections false`)
    await owner.query(`alter database ${unfinished} rename to ${database}`)
    return { database, pgvector }
  })
}
