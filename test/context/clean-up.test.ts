/** What a transaction can leave on a pooled connection is gone before the next one begins. */
import { sql } from 'kysely'
import type pg from 'pg'
import { beforeAll, describe, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { startProxy } from '../setup/proxy.ts'
import { type CheckedOut, CLEAN, expectCleanCheckout, INSPECT, inspectNextCheckout } from './clean-connection.ts'
import { createFixture, rowhouseFor } from './fixture.ts'

const database = useDatabase()
const open = rowhouseFor(database)
beforeAll(() => createFixture(database))

/** Each leaves something that survives the commit. */
const TRACES: Record<string, string> = {
  'a held cursor': 'declare held cursor with hold for select * from invoices',
  'a temporary table': 'create temporary table mine as select * from invoices',
  'a temporary view': "create temporary view mine as select 'acme secret' as s",
  'a listener': 'listen everything',
  'a session lock': 'select pg_advisory_lock(42)',
  'the tenant as a session setting': "select set_config('app.tenant_id', 'acme', false)",
  'the user as a session setting': "select set_config('app.user_id', 'acme', false)",
  'the word that it only settles': "select set_config('rowhouse.settles', 'on', false)",
  'a session role': "select set_config('role', 'rowhouse_app', false)",
  'row_security off': "select set_config('row_security', 'off', false)",
  'read-only sessions': 'set session characteristics as transaction read only',
}

describe.each(Object.entries(TRACES))('%s', (_name, statement) => {
  test('is gone after commit, in the same round trip', needs('realRoles'), async () => {
    await using proxy = await startProxy(database.url('app'))
    const pool = database.pool('app', { max: 1, connectionString: proxy.url })
    const rowhouse = open({ pool })
    await rowhouse.query('acme', () => sql`select 1`)
    proxy.resetCounters()
    await rowhouse.withTenant('acme', (db) => sql.raw(statement).execute(db))
    expect(proxy.counters.flights).toBe(2)
    await expectCleanCheckout(pool)
  })

  test('is gone after a single statement, in the same round trip', needs('realRoles'), async () => {
    await using proxy = await startProxy(database.url('app'))
    const pool = database.pool('app', { max: 1, connectionString: proxy.url })
    const rowhouse = open({ pool })
    await rowhouse.query('acme', () => sql`select 1`)
    proxy.resetCounters()
    await rowhouse.query('acme', () => sql.raw(statement))
    expect(proxy.counters.flights).toBe(1)
    await expectCleanCheckout(pool)
  })

  test('is gone after rollback', needs('realRoles'), async () => {
    const pool = database.pool('app', { max: 1 })
    const failing = open({ pool }).withTenant('acme', async (db) => {
      await sql.raw(statement).execute(db)
      throw new Error('mine')
    })
    await expect(failing).rejects.toThrow('mine')
    await expectCleanCheckout(pool)
  })

  test('is gone before the next transaction on a pool of our own', needs('realRoles'), async () => {
    const { query } = open({ poolOptions: { max: 1 } })
    await query('acme', () => sql.raw(statement))
    const [found] = await query('globex', () => sql.raw<CheckedOut>(INSPECT))
    expect(found).toEqual({ ...CLEAN, tenant: 'globex', isLogin: false })
  })

  test('negative control: without the clean-up it is still there', needs('realRoles'), async () => {
    const pool = database.pool('app', { max: 1 })
    await usePlainly(pool, statement)
    await expect(expectCleanCheckout(pool)).rejects.toThrow()
  })
})

async function usePlainly(pool: pg.Pool, statement: string): Promise<void> {
  const client = await pool.connect()
  for (const text of [
    'begin',
    'set local role rowhouse_app',
    "set local app.tenant_id = 'acme'",
    statement,
    'commit',
  ]) {
    await client.query(text)
  }
  client.release()
}

test('a shared pool keeps the session settings of the application', async () => {
  const pool = database.pool('app', { max: 1 })
  await pool.query("set search_path = public, pg_catalog; set statement_timeout = '7s'")
  await open({ pool }).query('acme', (db) => db.selectFrom('invoices').selectAll())
  const { rows } = await pool.query(
    "select current_setting('search_path') as path, current_setting('statement_timeout') as t",
  )
  expect(rows).toEqual([{ path: 'public, pg_catalog', t: '7s' }])
})

test('a pool of our own resets every setting, and forgets prepared statements', async () => {
  const { withTenant, query } = open({ poolOptions: { max: 1, options: '-c search_path=public' } })
  await withTenant('acme', async (db) => {
    await sql`set search_path = pg_catalog`.execute(db)
    await sql`set work_mem = '1MB'`.execute(db)
    await sql`prepare mine as select 'acme secret'`.execute(db)
  })
  const state = sql<any>`select current_setting('search_path') as path, current_setting('work_mem') <> '1MB' as reset,
    (select count(*)::int from pg_prepared_statements) as prepared`
  expect(await query('globex', () => state)).toEqual([{ path: 'public', reset: true, prepared: 0 }])
})

test('the settings of an onConnect hook stay', async () => {
  const onConnect = async (client: pg.Client) => void (await client.query("set statement_timeout = '7s'"))
  const { query } = open({ poolOptions: { max: 1, onConnect } as object })
  const show = sql<any>`select current_setting('statement_timeout') as t`
  await query('acme', () => show)
  expect(await query('acme', () => show)).toEqual([{ t: '7s' }])
})

test('several statements on one connection() share its session state; the next user finds none of it', async () => {
  const pool = database.pool('app', { max: 1 })
  await open({ pool })
    .kysely('acme')
    .connection()
    .execute(async (connection) => {
      await sql`select pg_advisory_lock(7)`.execute(connection)
      const locks = sql<any>`select count(*)::int as n from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()`
      expect((await locks.execute(connection)).rows).toEqual([{ n: 1 }])
    })
  await expectCleanCheckout(pool)
})

test('when the clean-up fails, the result stands and the connection goes', needs('superuser'), async () => {
  const pool = database.pool('app', { max: 1 })
  const { query } = open({ pool })
  const pid = async () => (await query('acme', () => sql<{ pid: number }>`select pg_backend_pid() as pid`))[0]!.pid
  const superuser = await database.connect('superuser')
  const before = await pid()
  await superuser.query('revoke execute on function pg_advisory_unlock_all() from public')
  try {
    expect(await query('acme', (db) => db.selectFrom('invoices').select('id').where('id', '=', 1))).toEqual([{ id: 1 }])
    expect(await inspectNextCheckout(pool)).toMatchObject({ status: 'I', tenant: null })
  } finally {
    await superuser.query('grant execute on function pg_advisory_unlock_all() to public')
  }
  expect(await pid()).not.toBe(before)
})
