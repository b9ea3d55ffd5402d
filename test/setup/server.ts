import pg from 'pg'
import type { Urls } from './engine.ts'
import { createLogins, grantRoles } from './logins.ts'
import { DATABASE_PREFIX, templateName } from './template.ts'

/** Sessions that stand for a run which is still at work, so that its databases are no leftovers. */
const RUN_PREFIX = 'rowhouse-test-run-'

export interface PreparedServer {
  readonly urls: Urls
  readonly version: string
  /** pgvector is installed on the server's machine. */
  readonly vectorAvailable: boolean
  /** Ends the session that stands for this run. */
  release(): Promise<void>
}

/**
 * Makes a server ready: logins, and no leftovers of runs that died. `url` names a superuser, or else a login with
 * CREATEROLE and CREATEDB, which then is the owner.
 */
export async function prepareServer(url: string, runId: string): Promise<PreparedServer> {
  const client = new pg.Client({ connectionString: url, application_name: `${RUN_PREFIX}${runId}` })
  // The server may be stopped before this session is ended.
  client.on('error', () => {})
  await client.connect()
  try {
    const { superuser, ...facts } = await readFacts(client)
    const urls = await createLogins(client, url, superuser)
    await dropLeftovers(client, runId, templateName(urls))
    await grantRoles(client)
    return { urls, ...facts, release: () => client.end() }
  } catch (error) {
    await client.end()
    throw error
  }
}

interface ServerFacts {
  readonly version: string
  readonly superuser: boolean
  readonly vectorAvailable: boolean
}

async function readFacts(client: pg.Client): Promise<ServerFacts> {
  const { rows } = await client.query<ServerFacts & { able: boolean; login: string }>(
    `select split_part(current_setting('server_version'), ' ', 1) as version, rolsuper as superuser,
            rolcreaterole and rolcreatedb as able, rolname as login,
            exists (select from pg_available_extensions where name = 'vector') as "vectorAvailable"
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

/** Drops databases of runs that are over, and templates of other states of the SQL when no other run is at work. */
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
