import pg from 'pg'
import { migrate as runPostgresMigrations } from 'postgres-migrations'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { migrate } from '../../src/migrate/migrate.ts'
import { SQL_FOLDER } from '../../src/migrate/sql-files.ts'
import { catalogSnapshot, createTestDatabase, failureOf, type TestDatabase, useServer } from './support.ts'

useServer()

let database: TestDatabase

beforeEach(async () => {
  database = await createTestDatabase()
})
afterEach(() => database.drop())

/** Installs, and checks that it did. */
async function install(): Promise<void> {
  const { applied } = await migrate({ connectionString: database.url })
  expect(applied.length).toBeGreaterThan(1)
  const [{ count }] = await database.admin('select count(*)::int from rowhouse.migrations')
  expect(count).toBeGreaterThan(1)
}

describe("next to the application's own table called migrations", () => {
  const shapes = {
    'a table of another shape': 'create table public.migrations (version bigint, dirty boolean)',
    'a view': "create view public.migrations as select 1 as id, 'x' as hash",
    'a partitioned table': 'create table public.migrations (id text) partition by list (id)',
    'a foreign history of postgres-migrations': `
      create table public.migrations (id int primary key, name varchar(100), hash varchar(40), executed_at timestamp);
      insert into public.migrations values (0, 'create-migrations-table', 'x'), (1, 'users', 'y'), (2, 'orders', 'z')`,
  }

  test.each(Object.entries(shapes))('installs beside %s and leaves it as it is', async (_, sql) => {
    const owner = await database.connect()
    await owner.query(sql)
    const before = await database.admin('select count(*)::int as rows from public.migrations')
    await install()
    expect(await database.admin('select count(*)::int as rows from public.migrations')).toEqual(before)
  })

  test('postgres-migrations alone fails there (control)', async () => {
    const owner = await database.connect()
    await owner.query(shapes['a foreign history of postgres-migrations'])
    await owner.query('create schema elsewhere; set search_path = elsewhere')
    await expect(runPostgresMigrations({ client: owner }, `${SQL_FOLDER}/migrations`)).rejects.toThrow(/does not exist/)
  })
})

describe('whatever else the database holds', () => {
  test('schemas and tables with hostile or equal names are left alone', async () => {
    const owner = await database.connect()
    await owner.query(`
      create schema "we""ird SCHEMA";
      create table "we""ird SCHEMA"."rowhouse" (tenants int);
      create table public.tenants (id int, name text);
      create table public.collections (id int);
      create function public.current_tenant() returns int language sql as $$ select 1 $$;
      insert into public.tenants values (1, 'mine')`)
    await owner.query(`alter database ${pg.escapeIdentifier(database.name)} set search_path = "we""ird SCHEMA", public`)
    await install()
    expect(await database.admin('select * from public.tenants')).toEqual([{ id: 1, name: 'mine' }])
    const strays = await database.admin(
      `select relname from pg_class where relnamespace = '"we""ird SCHEMA"'::regnamespace and relname <> 'rowhouse'`,
    )
    expect(strays).toEqual([])
  })

  test.each([
    'search_path = pg_temp, public, pg_catalog',
    "search_path = ''",
    'default_transaction_isolation = serializable',
    'statement_timeout = 1',
    'lock_timeout = 1',
    'idle_in_transaction_session_timeout = 1',
    'check_function_bodies = on',
    'standard_conforming_strings = off',
    "timezone = 'Pacific/Apia'",
    'row_security = off',
  ])('the setting %s of the login does not matter', async (setting) => {
    const [login, name] = [database.login, database.name].map((part) => pg.escapeIdentifier(part))
    // In this database only: other tests look for logins with such settings.
    await database.admin(`alter role ${login} in database ${name} set ${setting}`)
    await install()
  })

  test('functions that shadow built-in ones are not called', async () => {
    await database.admin('create table public.calls (function text); grant all on public.calls to public')
    await database.admin(`
      create function public.now() returns timestamptz language plpgsql as
        $$ begin insert into public.calls values ('now'); return pg_catalog.now(); end $$;
      create function public.format(text, text) returns text language plpgsql as
        $$ begin insert into public.calls values ('format'); return pg_catalog.format($1, $2); end $$`)
    await database.admin(`alter role ${pg.escapeIdentifier(database.login)} set search_path = public, pg_catalog`)
    const probe = await database.connect()
    await probe.query("select now(), format('x%s'::text, 'y'::text)")
    expect(await database.admin('select function from public.calls')).toHaveLength(2) // control
    await database.admin('truncate public.calls')
    await install()
    expect(await database.admin('select function from public.calls')).toEqual([])
  })
})

describe('event triggers of the database', () => {
  test('that log every command with rights of their own keep working', async () => {
    await database.admin(`
      create table public.ddl_log (tag text);
      create function public.log_ddl() returns event_trigger language plpgsql security definer set search_path = public as
        $$ begin insert into ddl_log values (tg_tag); end $$;
      create event trigger log_ddl on ddl_command_end execute function public.log_ddl()`)
    await install()
    const [{ count }] = await database.admin("select count(*)::int from public.ddl_log where tag = 'CREATE TABLE'")
    expect(count).toBeGreaterThan(2)
  })

  test('that refuse a command are named, and nothing is kept', async () => {
    await database.admin(`
      create function public.no_new_tables() returns event_trigger language plpgsql as
        $$ begin raise exception 'tables are made by the platform team'; end $$;
      create event trigger no_new_tables on ddl_command_end when tag in ('CREATE TABLE')
        execute function public.no_new_tables()`)
    const before = await catalogSnapshot(database)
    const error = await failureOf(migrate({ connectionString: database.url }))
    expect(error.code).toBe('migration_failed')
    expect(error.message).toContain('tables are made by the platform team')
    expect(error.hint).toContain('no_new_tables')
    expect(await catalogSnapshot(database)).toEqual(before)

    await database.admin('alter event trigger no_new_tables disable')
    await install()
  })
})

describe('what rowhouse cannot install into', () => {
  test('a schema rowhouse of somebody else is refused and left as it is', async () => {
    const owner = await database.connect()
    await owner.query('create schema rowhouse; create table rowhouse.migrations (id int)')
    const before = await catalogSnapshot(database)
    const error = await failureOf(migrate({ connectionString: database.url }))
    expect(error.code).toBe('missing_privilege')
    expect(error.message).toContain('schema rowhouse already')
    expect(error.hint).toContain('alter schema rowhouse rename')
    expect(await catalogSnapshot(database)).toEqual(before)

    await owner.query('alter schema rowhouse rename to old_rowhouse')
    await install()
  })

  test('a read-only default is respected and explained', async () => {
    const login = pg.escapeIdentifier(database.login)
    await database.admin(`alter role ${login} set default_transaction_read_only = on`)
    const error = await failureOf(migrate({ connectionString: database.url }))
    expect(error.code).toBe('missing_privilege')
    expect(error.message).toContain('default_transaction_read_only')
    await database.admin(/Run: (.*)$/.exec(error.hint)![1]!)
    await install()
  })
})
