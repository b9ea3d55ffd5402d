import { afterEach, beforeEach, expect, test } from 'vitest'
import { migrate, migrateFiles } from '../../src/migrate/migrate.ts'
import {
  createSqlFolder,
  createTestDatabase,
  failureOf,
  removeSqlFolder,
  type TestDatabase,
  useServer,
} from './support.ts'

useServer()

let database: TestDatabase
let folder: string

beforeEach(async () => {
  database = await createTestDatabase()
  folder = await createSqlFolder(
    {
      '1_first.sql': 'create table rowhouse.first (id int)',
      '2_slow.sql': 'create table rowhouse.second (id int); select pg_sleep(60)',
    },
    { 'a.sql': 'create or replace function rowhouse.a() returns int language sql as $$ select 1 $$' },
  )
})
afterEach(async () => {
  await database.drop()
  await removeSqlFolder(folder)
})

/** Waits until the second migration runs, and returns its backend. */
async function backendInSecondFile(): Promise<number> {
  for (;;) {
    const [backend] = await database.admin<{ pid: number }>(
      "select pid from pg_stat_activity where query like '%pg_sleep(60)%' and pid <> pg_backend_pid() and state = 'active'",
    )
    if (backend) return backend.pid
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

async function tables(): Promise<string[]> {
  const rows = await database.admin(
    "select relname from pg_class where relnamespace = to_regnamespace('rowhouse') and relkind = 'r' order by 1",
  )
  return rows.map(({ relname }) => relname)
}

test('a backend that dies in the middle leaves a state from which migrate goes on', async () => {
  const run = failureOf(migrateFiles({ connectionString: database.url }, {}, folder))
  const pid = await backendInSecondFile()
  await database.admin('select pg_terminate_backend($1)', [pid])
  const error = await run
  expect(error.code).toBe('connection_failed')
  expect(error.message).toContain('migrations/2_slow.sql')
  expect(error.retryable).toBe(true)

  // The first file had run in the same transaction and is gone with it: never half a version.
  expect(await tables()).toEqual(['applied_functions', 'migrations'])
  expect(await database.admin('select * from rowhouse.migrations')).toEqual([])

  await migrate({ connectionString: database.url })
  expect(await tables()).toContain('tenants')
})

test('the killed run had really got that far (control)', async () => {
  const run = failureOf(migrateFiles({ connectionString: database.url }, {}, folder))
  const pid = await backendInSecondFile()
  // It holds an exclusive lock on a relation that nobody else can see yet: one of its new tables.
  const locks = await database.admin(
    "select relation from pg_locks where pid = $1 and mode = 'AccessExclusiveLock' and relation is not null",
    [pid],
  )
  expect(locks.length).toBeGreaterThan(0)
  await database.admin('select pg_cancel_backend($1)', [pid])
  expect((await run).message).toMatch(/2_slow\.sql.* failed, and nothing of it was kept: canceling statement/)
})

test('a process that dies while it holds the lock does not stop the next one', async () => {
  const dying = await database.connect()
  const run = migrateFiles({ client: dying }, {}, folder).catch(() => 'failed')
  await backendInSecondFile()
  ;(dying as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy()
  expect(await run).toBe('failed')
  // The server notices when it writes; until then the lock is held. An administrator need not do anything.
  await database.admin(
    "select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_sleep(60)%' and pid <> pg_backend_pid()",
  )
  const { applied } = await migrate({ connectionString: database.url })
  expect(applied.length).toBeGreaterThan(1)
})

test('a migration that fails leaves nothing of its run, and the mended file goes through', async () => {
  const broken = await createSqlFolder({
    '1_first.sql': 'create table rowhouse.first (id int)',
    '2_broken.sql': 'create table rowhouse.second (id int);\n\nselect 1 / 0;',
  })
  const mended = await createSqlFolder({
    '1_first.sql': 'create table rowhouse.first (id int)',
    '2_broken.sql': 'create table rowhouse.second (id int)',
  })
  try {
    const error = await failureOf(migrateFiles({ connectionString: database.url }, {}, broken))
    expect(error.code).toBe('migration_failed')
    expect(error.message).toContain('migrations/2_broken.sql')
    expect(error.message).toContain('division by zero')
    expect(await tables()).toEqual(['applied_functions', 'migrations'])

    const { applied } = await migrateFiles({ connectionString: database.url }, {}, mended)
    expect(applied.map(({ file }) => file)).toEqual(['migrations/1_first.sql', 'migrations/2_broken.sql'])
  } finally {
    await removeSqlFolder(broken)
    await removeSqlFolder(mended)
  }
})
