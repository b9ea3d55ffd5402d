import { createHash } from 'node:crypto'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import { migrate } from '../../src/migrate/migrate.ts'
import { withClient, withParts } from './connection.ts'
import type { ServerAccess, Template } from './engine.ts'
import { adoptRoles, createLogins, grantRoles } from './logins.ts'

/** Names of all databases of the tests begin with it. */
export const DATABASE_PREFIX = 'rowhouse_test_'
/** Sessions that stand for a run which is still at work, so that its databases are no leftovers. */
const RUN_PREFIX = 'rowhouse-test-run-'
/** Key of the session advisory lock that runs take while they prepare a server they share. */
const PREPARE_LOCK = 0x726f7774

export interface PreparedServer {
  readonly version: string
  readonly pgvector: boolean
  readonly access: ServerAccess
  /** Ends the session that stands for this run. */
  release(): Promise<void>
}

/**
 * Makes a server ready: logins, no leftovers of runs that died, and, if wanted, the template database, which the
 * ordinary owner migrated. `url` names a superuser, or else a login with CREATEROLE and CREATEDB, which then is the
 * owner.
 */
export async function prepareServer(
  url: string,
  { runId, template: wanted }: { runId: string; template: boolean },
): Promise<PreparedServer> {
  const client = new pg.Client({ connectionString: url, application_name: `${RUN_PREFIX}${runId}` })
  // The server may be stopped before this session is ended.
  client.on('error', () => {})
  await client.connect()
  try {
    await client.query('select pg_advisory_lock($1)', [PREPARE_LOCK])
    const facts = await readFacts(client)
    const urls = await createLogins(client, url, facts.superuser)
    const templateDatabase = nameTemplate(new URL(urls.owner).username)
    await dropLeftovers(client, runId, templateDatabase)
    let template: Template | undefined
    if (wanted) {
      await adoptRoles(client, facts)
      template = await makeTemplate(client, urls, templateDatabase)
    }
    await grantRoles(client)
    await client.query('select pg_advisory_unlock($1)', [PREPARE_LOCK])
    return {
      version: facts.version,
      pgvector: facts.available && (facts.superuser || (template !== undefined && (await hasVector(client, template)))),
      access: { urls, ...(template === undefined ? {} : { template }) },
      release: () => client.end(),
    }
  } catch (error) {
    await client.end()
    throw error
  }
}

interface ServerFacts {
  readonly version: string
  readonly superuser: boolean
  /** pgvector is installed on the server's machine. */
  readonly available: boolean
}

async function readFacts(client: pg.Client): Promise<ServerFacts> {
  const { rows } = await client.query<ServerFacts & { able: boolean; login: string }>(
    `select split_part(current_setting('server_version'), ' ', 1) as version, rolsuper as superuser,
            rolcreaterole and rolcreatedb as able, rolname as login,
            exists (select from pg_available_extensions where name = 'vector') as available
     from pg_roles where rolname = current_user`,
  )
  const { able, login, ...facts } = rows[0]!
  if (!facts.superuser && !able) {
    throw new Error(
      `TEST_DATABASE_URL: ${login} is no superuser and lacks CREATEROLE or CREATEDB. ` +
        `Run: alter role ${pg.escapeIdentifier(login)} createrole createdb;`,
    )
  }
  return facts
}

/** Drops databases of runs that are over. */
async function dropLeftovers(client: pg.Client, runId: string, template: string): Promise<void> {
  const { rows: sessions } = await client.query<{ run: string }>(
    `select substr(application_name, length($1) + 1) as run from pg_stat_activity
     where starts_with(application_name, $1)`,
    [RUN_PREFIX],
  )
  const running = new Set(sessions.map(({ run }) => run))
  const alone = [...running].every((run) => run === runId)
  const { rows: databases } = await client.query<{ name: string }>(
    "select datname as name from pg_database where starts_with(datname, $1) and pg_has_role(datdba, 'USAGE')",
    [DATABASE_PREFIX],
  )
  for (const { name } of databases) {
    const run = name.slice(DATABASE_PREFIX.length).split('_')[0]!
    const leftover = run === 'template' ? alone && name !== template : !running.has(run)
    if (leftover) await client.query(`drop database if exists ${pg.escapeIdentifier(name)} with (force)`)
  }
}

/** Different for every owner, and every state of the SQL and of the code that installs it. */
function nameTemplate(owner: string): string {
  const root = join(import.meta.dirname, '../..')
  const hash = createHash('sha256').update(owner)
  for (const file of globSync(['sql/**/*.sql', 'src/migrate/**/*.ts'], { cwd: root }).sort()) {
    hash.update(`${file}\n`).update(readFileSync(join(root, file)))
  }
  return `${DATABASE_PREFIX}template_${hash.digest('hex').slice(0, 12)}`
}

const VECTOR_COMMENT = 'Template of the tests of rowhouse, with pgvector'

async function makeTemplate(client: pg.Client, urls: ServerAccess['urls'], database: string): Promise<Template> {
  const { rowCount } = await client.query('select from pg_database where datname = $1', [database])
  if (rowCount === 1) return { database }

  // Under another name until it is complete.
  const unfinished = `${database}_new`
  const drop = `drop database if exists ${unfinished} with (force)`
  await client.query(drop)
  return withClient(urls.owner, async (owner) => {
    await owner.query(`create database ${unfinished}`)
    await withClient(withParts(urls.superuser ?? urls.owner, { database: unfinished }), async (creator) => {
      // Where it can't be created, tests that need it are skipped.
      const created = await creator.query('create extension vector').catch(() => undefined)
      if (created !== undefined) await owner.query(`comment on database ${unfinished} is '${VECTOR_COMMENT}'`)
    })
    try {
      await migrate({ connectionString: withParts(urls.owner, { database: unfinished }) })
    } catch (error) {
      await client.query(drop)
      return { error: describeError(error) }
    }
    // Nobody can be connected to it, so it can be copied at any time, by many at once.
    await owner.query(`alter database ${unfinished} allow_connections false`)
    await owner.query(`alter database ${unfinished} rename to ${database}`)
    return { database }
  })
}

async function hasVector(client: pg.Client, template: Template): Promise<boolean> {
  if ('error' in template) return false
  const { rows } = await client.query<{ comment: string | null }>(
    "select shobj_description(oid, 'pg_database') as comment from pg_database where datname = $1",
    [template.database],
  )
  return rows[0]?.comment === VECTOR_COMMENT
}

function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error.cause instanceof Error ? `${error.message} (${error.cause.message})` : error.message
}
