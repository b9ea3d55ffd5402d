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
import { needs } from '../setup/needs.ts'
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
    await lease.send(batch([SLOW]))
    await lease.release()
    expect(pool.idleCount).toBe(0)
    await expect.poll(() => pool.idleCount).toBe(1)
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

describe('calls one after the other', () => {
  /** The connections of at least 50 calls; of more when there are not as many connections as expected. */
  async function backendsOf(poolOptions: pg.PoolConfig, atLeast = 1): Promise<number> {
    const { query } = open({ poolOptions })
    const pids = new Set<number>()
    const givenUpAt = performance.now() + 10_000
    for (let call = 0; call < 50 || (pids.size < atLeast && performance.now() < givenUpAt); call++) {
      pids.add((await query('acme', () => sql<{ pid: number }>`select pg_backend_pid() as pid`))[0]!.pid)
    }
    return pids.size
  }

  test('use another connection while one is cleaned', needs('parallelBackends'), async () => {
    // Usually two; more when the machine is so busy that cleaning takes longer than a call.
    expect(await backendsOf({ max: 5 }, 2)).toBeGreaterThanOrEqual(2)
  })

  test('use one where the pool has only one', async () => {
    expect(await backendsOf({ max: 1 })).toBe(1)
  })

  test('do not fail when a second one can not be opened', async () => {
    let opened = 0
    class LastClient extends pg.Client {
      override connect(callback?: any): any {
        if (++opened === 1) return super.connect(callback)
        callback(new Error('too many connections'))
      }
    }
    expect(await backendsOf({ max: 5, Client: LastClient } as pg.PoolConfig)).toBe(1)
    // Asked for once, and not again with every call.
    expect(opened).toBe(2)
  })
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
