/** The answer to a commit does not wait for the clean-up behind it; the connection does. */
import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'kysely'
import pg from 'pg'
import { beforeAll, describe, expect, test } from 'vitest'
import { type Batch, sendBatch } from '../../src/context/batch.ts'
import { ClientLease } from '../../src/context/client-lease.ts'
import type { PoolClient } from '../../src/context/pg-internals.ts'
import { ReturningClients } from '../../src/context/returning-clients.ts'
import { useDatabase } from '../setup/database.ts'
import { createFixture, rowhouseFor } from './fixture.ts'

const database = useDatabase()
const open = rowhouseFor(database)
beforeAll(() => createFixture(database))

const SLOW = 'select pg_sleep(0.5)'
const batch = (cleanUp: readonly string[]): Batch => ({
  before: ['begin'],
  statement: { sql: 'select 1 as one', values: [] },
  end: 'commit',
  cleanUp,
})

async function checkOut(): Promise<{ pool: pg.Pool; client: PoolClient }> {
  const pool = database.pool('app', { max: 1 })
  return { pool, client: (await pool.connect()) as unknown as PoolClient }
}

async function isPending(promise: Promise<unknown>): Promise<boolean> {
  return (await Promise.race([promise.then(() => 'done'), sleep(0).then(() => 'pending')])) === 'pending'
}

describe('a batch', () => {
  test('tells its outcome before the clean-up has ended', async () => {
    const { client } = await checkOut()
    const { outcome, completed } = sendBatch(client, batch([SLOW]))
    expect(await outcome).toMatchObject({ result: { rows: [{ one: 1 }] }, endTag: 'COMMIT', status: null })
    expect(await isPending(completed)).toBe(true)
    expect(await completed).toMatchObject({ failure: undefined, status: 'I' })
    client.release()
  })

  test('without an end, it tells its outcome when everything has been answered', async () => {
    const { client } = await checkOut()
    const { outcome, completed } = sendBatch(client, { ...batch([SLOW]), end: undefined })
    expect(await outcome).toMatchObject({ status: 'T' })
    expect(await isPending(completed)).toBe(false)
    client.release(true)
  })
})

describe('a lease', () => {
  test('comes back to the pool when it is clean, without making the caller wait', async () => {
    const { pool, client } = await checkOut()
    const returning = new ReturningClients()
    const lease = new ClientLease(client, returning, { waitsUntilClean: false })
    await lease.send(batch(['select pg_sleep(0.01)']))
    await lease.release()
    expect(pool.idleCount).toBe(0)
    await returning.next()
    expect(pool.idleCount).toBe(1)
  })

  test('of a pool that the application made is back when the call returns', async () => {
    const { pool, client } = await checkOut()
    const lease = new ClientLease(client, new ReturningClients(), { waitsUntilClean: true })
    await lease.send(batch(['select pg_sleep(0.01)']))
    await lease.release()
    expect(pool.idleCount).toBe(1)
  })

  test('whose clean-up fails is destroyed, and the result stands', async () => {
    const { pool, client } = await checkOut()
    const lease = new ClientLease(client, new ReturningClients(), { waitsUntilClean: true })
    expect(await lease.send(batch(['select 1/0']))).toMatchObject({ failure: undefined, endTag: 'COMMIT' })
    await lease.release()
    expect(pool.totalCount).toBe(0)
  })
})

test('calls one after the other use one connection', async () => {
  const { query } = open({ poolOptions: { max: 5 } })
  const pids = new Set<number>()
  for (let call = 0; call < 50; call++) {
    pids.add((await query('acme', () => sql<{ pid: number }>`select pg_backend_pid() as pid`))[0]!.pid)
  }
  expect(pids.size).toBe(1)
})

test('a value that a type parser refuses is an error, and no part of the rows is returned', async () => {
  const types = {
    getTypeParser: (oid: number, format?: any) =>
      oid === pg.types.builtins.INT4
        ? (text: string) => {
            if (text === '3') throw new Error('no threes')
            return Number(text)
          }
        : pg.types.getTypeParser(oid, format),
  }
  const { query, withTenant } = open({ poolOptions: { max: 1, types: types as pg.CustomTypesConfig } })
  const ids = sql<{ id: number }>`select id from invoices order by id`
  await expect(query('acme', () => ids)).rejects.toThrow('no threes')
  await expect(withTenant('acme', (db) => ids.execute(db))).rejects.toThrow('no threes')
  expect(await query('acme', () => sql`select 1::int4 as one`)).toEqual([{ one: 1 }])
})
