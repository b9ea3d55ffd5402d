import pg from 'pg'
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
let client: pg.Client

beforeEach(async () => {
  database = await createTestDatabase()
  client = await database.connect()
  await client.query('create schema mine')
  await client.query("set search_path = mine, public; set statement_timeout = '7s'; set timezone = 'Asia/Tokyo'")
})
afterEach(() => database.drop())

const SESSION = `select current_user as role, current_setting('search_path') as path,
  current_setting('statement_timeout') as timeout, current_setting('timezone') as zone,
  current_setting('client_min_messages') as messages, current_setting('check_function_bodies') as bodies`

async function session(): Promise<unknown> {
  return (await client.query(SESSION)).rows[0]
}

test('a client comes back with its role and settings, also when it is used again', async () => {
  const before = await session()
  const { applied } = await migrate({ client })
  expect(applied.length).toBeGreaterThan(1)
  expect(await session()).toEqual(before)
  expect((await migrate({ client })).applied).toEqual([])
  expect(await session()).toEqual(before)
  expect(client.getTransactionStatus()).toBe('I')
})

test('a client comes back with its role and settings when a file fails', async () => {
  const folder = await createSqlFolder({ '1_broken.sql': 'select nonsense' })
  const before = await session()
  await failureOf(migrateFiles({ client }, {}, folder))
  expect(await session()).toEqual(before)
  expect(client.getTransactionStatus()).toBe('I')
  await removeSqlFolder(folder)
})

test('the settings do differ inside (control)', async () => {
  const before = await session()
  const folder = await createSqlFolder({ '1_look.sql': `create table rowhouse.seen as ${SESSION}` })
  await migrateFiles({ client }, {}, folder)
  const [seen] = await database.admin('select * from rowhouse.seen')
  expect(seen).toMatchObject({ role: 'rowhouse_owner', path: 'rowhouse, pg_temp', timeout: '0', zone: 'UTC' })
  expect(seen).not.toMatchObject(before as object)
  await removeSqlFolder(folder)
})

test('a client that works as another role keeps it', async () => {
  const group = `${database.login}_group`
  await database.admin(`create role ${group}; grant ${group} to ${database.login}`)
  await database.admin(`alter database ${database.name} owner to ${group}; alter role ${group} createrole`)
  if (database.serverVersion >= 160000) {
    await database.admin(
      `grant rowhouse_owner, rowhouse_app, rowhouse_admin, rowhouse_search to ${group} with admin option`,
    )
  }
  await client.query(`set role ${group}`)
  const before = await session()
  expect((await migrate({ client })).applied.length).toBeGreaterThan(1)
  expect(await session()).toEqual(before)
  await client.query('reset role')
  await database.admin(
    `alter database ${database.name} owner to ${database.login}; drop owned by ${group}; drop role ${group}`,
  )
})

test('a client of a pool works', async () => {
  const pool = new pg.Pool({ connectionString: database.url })
  // end() does not wait for the server to close, and the database is dropped by force right after it.
  pool.on('error', () => {}).on('connect', (created) => void created.on('error', () => {}))
  const pooled = await pool.connect()
  expect((await migrate({ client: pooled })).applied.length).toBeGreaterThan(1)
  pooled.release()
  await pool.end()
})

test('a client inside a transaction is refused and keeps its transaction', async () => {
  await client.query('begin; create table mine.kept (id int)')
  const error = await failureOf(migrate({ client }))
  expect(error.code).toBe('invalid_argument')
  await client.query('commit')
  expect(await database.admin('select from mine.kept')).toEqual([])
})

test('listeners of the client are the same afterwards', async () => {
  const before = client.listenerCount('error')
  await migrate({ client })
  expect(client.listenerCount('error')).toBe(before)
})
