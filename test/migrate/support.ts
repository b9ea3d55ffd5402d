import { randomBytes } from 'node:crypto'
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { inject } from 'vitest'
import { RowhouseError } from '../../src/errors.ts'
import { ROLE_NAMES } from '../../src/migrate/server-facts.ts'
import { SQL_FOLDER } from '../../src/migrate/sql-files.ts'
import { withParts } from '../setup/connection.ts'
import { useDatabase } from '../setup/database.ts'
import { currentEngine } from '../setup/needs.ts'
import { DATABASE_PREFIX } from '../setup/template.ts'

/** The file makes databases and logins of its own; where the engine can't have them, it is skipped with the reason. */
export function useServer(): void {
  useDatabase({ migrated: false, needs: ['parallelBackends', 'realRoles', 'superuser'] })
}

/** An empty database and the login that owns it: no superuser, with CREATEROLE unless said otherwise. */
export interface TestDatabase {
  readonly name: string
  readonly login: string
  /** As the owner. */
  readonly url: string
  /** As the administrator of the server. */
  readonly adminUrl: string
  readonly serverVersion: number
  /** Runs SQL as the administrator, in the database. */
  admin<Row extends pg.QueryResultRow = any>(sql: string, parameters?: unknown[]): Promise<Row[]>
  /** A connection as the owner, closed with the database. */
  connect(url?: string): Promise<pg.Client>
  drop(): Promise<void>
}

export interface TestDatabaseOptions {
  /** Whether the login has CREATEROLE, and from 16 on may grant the roles if they exist. */
  readonly createRole?: boolean
  /** Added to the names of database and login, to try names that must be quoted. */
  readonly suffix?: string
  /** A superuser of the server; default: the server of the run. */
  readonly server?: string
}

export async function createTestDatabase(options: TestDatabaseOptions = {}): Promise<TestDatabase> {
  const { createRole = true, suffix = '', server: serverUrl = currentEngine().server!.urls.superuser! } = options
  const id = randomBytes(3).toString('hex')
  const name = `${DATABASE_PREFIX}${inject('run').id}_migrate_${id}${suffix}`
  const login = `migrate_login_${id}${suffix}`
  const [quotedName, quotedLogin] = [pg.escapeIdentifier(name), pg.escapeIdentifier(login)]
  const server = await connectTo(serverUrl)
  await server.query(`create role ${quotedLogin} login password 'secret' ${createRole ? 'createrole' : ''}`)
  await server.query(`create database ${quotedName} owner ${quotedLogin}`)
  const { rows } = await server.query("select current_setting('server_version_num')::int as version")
  const serverVersion: number = rows[0].version
  if (createRole && serverVersion >= 160000) {
    for (const role of await existingRoles(server))
      await server.query(`grant ${role} to ${quotedLogin} with admin option`)
  }

  const adminUrl = withParts(serverUrl, { database: name })
  const url = withParts(adminUrl, { user: login, password: 'secret' })
  const administrator = await connectTo(adminUrl)
  const connections: pg.Client[] = [administrator, server]
  return {
    name,
    login,
    url,
    adminUrl,
    serverVersion,
    async admin(sql, parameters) {
      const result = await administrator.query(sql, parameters)
      return result.rows
    },
    async connect(target = url) {
      const client = await connectTo(target)
      connections.unshift(client)
      return client
    },
    async drop() {
      for (const connection of connections) if (connection !== server) await connection.end().catch(() => {})
      await server.query(`drop database ${quotedName} with (force)`)
      await server.query(`drop owned by ${quotedLogin}`)
      await server.query(`drop role ${quotedLogin}`)
      await server.end()
    },
  }
}

async function existingRoles(server: pg.Client): Promise<string[]> {
  const { rows } = await server.query('select rolname from pg_roles where rolname = any ($1)', [ROLE_NAMES])
  return rows.map(({ rolname }) => rolname)
}

async function connectTo(url: string): Promise<pg.Client> {
  const client = new pg.Client(url)
  client.on('error', () => {})
  await client.connect()
  return client
}

/** SQL files of a package that is not ours: the real bootstrap, and the given migrations and functions. */
export async function createSqlFolder(
  migrations: Readonly<Record<string, string>>,
  functions: Readonly<Record<string, string>> = {},
): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'rowhouse-sql-'))
  await mkdir(join(folder, 'migrations'))
  await mkdir(join(folder, 'functions'))
  await copyFile(join(SQL_FOLDER, 'bootstrap.sql'), join(folder, 'bootstrap.sql'))
  for (const [name, sql] of Object.entries(migrations)) await writeFile(join(folder, 'migrations', name), sql)
  for (const [name, sql] of Object.entries(functions)) await writeFile(join(folder, 'functions', name), sql)
  return folder
}

export async function removeSqlFolder(folder: string): Promise<void> {
  await rm(folder, { recursive: true, force: true })
}

/** The error of a promise that must fail with one of ours. */
export async function failureOf(work: Promise<unknown>): Promise<RowhouseError> {
  try {
    await work
  } catch (error) {
    if (error instanceof RowhouseError) return error
    throw error
  }
  throw new Error('expected a failure, and there was none')
}

/** What the schema holds, to compare two moments: nothing differs when nothing was written. */
export async function catalogSnapshot(database: TestDatabase): Promise<unknown[]> {
  return database.admin(`
    select 'namespace' as catalog, nspname::text as name, xmin::text as version from pg_namespace
    union all
    select 'class', oid::regclass::text, xmin::text from pg_class where relnamespace::regnamespace::text !~ '^pg_'
    union all
    select 'proc', oid::regprocedure::text, xmin::text from pg_proc where pronamespace::regnamespace::text !~ '^pg_'
    union all
    select 'default_acl', oid::text, xmin::text from pg_default_acl
    union all
    select 'database', datname, xmin::text from pg_database where datname = current_database()
    union all
    select 'membership', roleid::regrole::text, xmin::text from pg_auth_members where member = (select oid from pg_roles where rolname = ${pg.escapeLiteral(database.login)})
    order by 1, 2, 3`)
}
