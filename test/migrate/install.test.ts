import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { migrate } from '../../src/migrate/migrate.ts'
import { packageVersion } from '../../src/migrate/package-version.ts'
import type { MigrationReport } from '../../src/migrate/report.ts'
import { migrationStatus } from '../../src/migrate/status.ts'
import { catalogSnapshot, createTestDatabase, type TestDatabase, useServer } from './support.ts'

useServer()

describe('an installation by the ordinary owner of the database', () => {
  let database: TestDatabase
  let report: MigrationReport

  beforeAll(async () => {
    database = await createTestDatabase()
    report = await migrate({ connectionString: database.url })
  })
  afterAll(() => database.drop())

  test('is made by a login that is no superuser', async () => {
    const [login] = await database.admin('select rolsuper, rolbypassrls from pg_roles where rolname = $1', [
      database.login,
    ])
    expect(login).toEqual({ rolsuper: false, rolbypassrls: false })
  })

  test('reports the files in the order of their application', () => {
    expect(report.version).toBe(packageVersion())
    expect(report.database).toBe(database.name)
    expect(report.applied[0]?.file).toBe('bootstrap.sql')
    expect(report.applied[1]?.file).toBe('migrations/1_tenants.sql')
    const kinds = report.applied.map(({ kind }) => kind)
    expect(kinds).toEqual([...kinds].sort((a, b) => order(a) - order(b)))
  })

  test('makes four roles that nobody can log in as and row-level security binds', async () => {
    const roles = await database.admin(
      `select rolname, rolcanlogin, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb
       from pg_roles where rolname like 'rowhouse\\_%' and rolname in ('rowhouse_owner', 'rowhouse_app', 'rowhouse_admin', 'rowhouse_search')`,
    )
    expect(roles).toHaveLength(4)
    for (const role of roles) {
      expect(role).toMatchObject({ rolcanlogin: false, rolsuper: false, rolbypassrls: false, rolcreaterole: false })
    }
  })

  test('lets the login work as the application', async () => {
    const client = await database.connect()
    await client.query('begin; set local role rowhouse_app')
    const { rows } = await client.query('select current_user')
    await client.query('rollback')
    expect(rows).toEqual([{ current_user: 'rowhouse_app' }])
  })

  test('makes rowhouse_owner the owner of everything in the schema but one function', async () => {
    const foreign = await database.admin(`
      select 'schema' as kind, nspname::text as name from pg_namespace
        where nspname = 'rowhouse' and nspowner <> 'rowhouse_owner'::regrole
      union all select 'relation', oid::regclass::text from pg_class
        where relnamespace = 'rowhouse'::regnamespace and relowner <> 'rowhouse_owner'::regrole
      union all select 'function', oid::regprocedure::text from pg_proc
        where pronamespace = 'rowhouse'::regnamespace and proowner <> case proname when 'find_words' then 'rowhouse_search'::regrole else 'rowhouse_owner'::regrole end
      union all select 'type', oid::regtype::text from pg_type
        where typnamespace = 'rowhouse'::regnamespace and typowner <> 'rowhouse_owner'::regrole`)
    expect(foreign).toEqual([])
  })

  test('explains the tables of the migrator in comments', async () => {
    const silent = await database.admin(`
      select c.relname, a.attname from pg_class c
      join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      where c.oid in ('rowhouse.migrations'::regclass, 'rowhouse.applied_functions'::regclass)
        and (col_description(c.oid, a.attnum) is null or obj_description(c.oid, 'pg_class') is null)`)
    expect(silent).toEqual([])
    const [schema] = await database.admin("select obj_description('rowhouse'::regnamespace, 'pg_namespace') as comment")
    expect(schema.comment).toMatch(/\w/)
  })

  test('lets everybody look up names in the schema, and create nothing there', async () => {
    const [rights] = await database.admin(`
      select has_schema_privilege('public', 'rowhouse', 'USAGE') as usage,
        has_schema_privilege('public', 'rowhouse', 'CREATE') as create,
        has_table_privilege('public', 'rowhouse.migrations', 'SELECT') as migrations`)
    expect(rights).toEqual({ usage: true, create: false, migrations: false })
  })

  test('makes functions that nobody may execute until they are granted', async () => {
    const client = await database.connect()
    await client.query('begin; set local role rowhouse_owner')
    await client.query('create function rowhouse.made_by_test() returns int language sql as $$ select 1 $$')
    const { rows } = await client.query("select has_function_privilege('public', 'rowhouse.made_by_test()', 'EXECUTE')")
    await client.query('rollback')
    expect(rows).toEqual([{ has_function_privilege: false }])
  })

  test('lets rowhouse_owner create the schemas of promoted tenants', async () => {
    const client = await database.connect()
    await client.query('begin; set local role rowhouse_owner; create schema made_by_test; rollback')
  })

  test('writes nothing when it is made again', async () => {
    const before = await catalogSnapshot(database)
    const again = await migrate({ connectionString: database.url })
    expect(again.applied).toEqual([])
    expect(again.preparations).toEqual([])
    expect(await catalogSnapshot(database)).toEqual(before)
  })

  test('is recognized as written to when something was written (control of the comparison)', async () => {
    const before = await catalogSnapshot(database)
    await database.admin("comment on schema rowhouse is 'x'; grant usage on schema rowhouse to pg_monitor")
    expect(await catalogSnapshot(database)).not.toEqual(before)
    await database.admin('revoke usage on schema rowhouse from pg_monitor')
  })

  test('is up to date afterwards', async () => {
    const status = await migrationStatus({ connectionString: database.url })
    expect(status.upToDate).toBe(true)
    expect(status.installedVersion).toBe(packageVersion())
    expect(status.files.every(({ state, appliedAt }) => state === 'applied' && appliedAt !== null)).toBe(true)
  })
})

test('an installation by a superuser belongs to rowhouse_owner all the same', async () => {
  const database = await createTestDatabase()
  try {
    await migrate({ connectionString: database.adminUrl })
    const owners = await database.admin(
      "select distinct relowner::regrole::text as owner from pg_class where relnamespace = 'rowhouse'::regnamespace",
    )
    expect(owners).toEqual([{ owner: 'rowhouse_owner' }])
    const { applied } = await migrate({ connectionString: database.url })
    expect(applied.filter(({ kind }) => kind !== 'bootstrap')).toEqual([])
  } finally {
    await database.drop()
  }
})

test('a database and a login with hostile names are quoted', async () => {
  const database = await createTestDatabase({ suffix: ' "x" drop schema public --' })
  try {
    const { applied } = await migrate({ connectionString: database.url })
    expect(applied.length).toBeGreaterThan(1)
    expect(await database.admin("select from pg_namespace where nspname = 'public'")).toHaveLength(1)
  } finally {
    await database.drop()
  }
})

function order(kind: string): number {
  return ['bootstrap', 'migration', 'functions'].indexOf(kind)
}
