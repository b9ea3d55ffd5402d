import { sql } from 'kysely'
import { expect, test } from 'vitest'
import { fromEnvironment, tenantHandler } from '../../src/http/index.ts'
import { createRowhouse } from '../../src/index.ts'
import { ACME, openRowhouse, useRowhouse } from '../audit/support.ts'
import { useDatabase } from '../setup/database.ts'
import { startProxy } from '../setup/proxy.ts'

const database = useDatabase()
const fixture = useRowhouse(database)

test('close waits for a request that has reserved something, and what it used is booked', async () => {
  await fixture.rowhouse.quotas.define('documents', { metric: 'documents', period: 'total' })
  await fixture.rowhouse.quotas.set(ACME, 'documents', { limit: 10 })
  const rowhouse = openRowhouse(database)
  const entered = Promise.withResolvers<void>()
  const opened = Promise.withResolvers<void>()
  const handler = tenantHandler(
    rowhouse,
    { resolve: fromEnvironment(ACME), quota: { units: { documents: 3 } } },
    async () => {
      entered.resolve()
      await opened.promise
      return new Response()
    },
  )
  const answer = handler(new Request('https://api.example.com/'))
  await entered.promise
  let isClosed = false
  const closed = rowhouse.close().then(() => {
    isClosed = true
  })
  await fixture.app.query('select pg_sleep(0.1)')
  expect(isClosed).toBe(false)
  opened.resolve()
  expect((await answer).status).toBe(200)
  await closed
  const quotas = await fixture.rowhouse.tenant(ACME).budget.checkQuotas()
  expect(quotas.find(({ name }) => name === 'documents')).toMatchObject({ used: 3, reserved: 0 })
})

test('close waits no longer than the lease of a reservation', async () => {
  const rowhouse = openRowhouse(database)
  const entered = Promise.withResolvers<void>()
  const handler = tenantHandler(rowhouse, { resolve: fromEnvironment(ACME), quota: { leaseMs: 50 } }, () => {
    entered.resolve()
    return new Promise<Response>(() => {})
  })
  void handler(new Request('https://api.example.com/'))
  await entered.promise
  await rowhouse.close()
})

test('close waits for the work it was told of, and for what that adds, also when it fails', async () => {
  const rowhouse = openRowhouse(database)
  const done: string[] = []
  const first = Promise.withResolvers<void>()
  rowhouse.waitUntil(
    first.promise.then(() => {
      done.push('first')
      rowhouse.waitUntil(Promise.reject(new Error('the caller reports it')))
      rowhouse.waitUntil(Promise.resolve().then(() => void done.push('second')))
    }),
  )
  const closed = rowhouse.close().then(() => void done.push('closed'))
  first.resolve()
  await closed
  expect(done).toEqual(['first', 'second', 'closed'])
})

test('nothing of a pool of the application is in use after close', async () => {
  const proxy = await startProxy(database.url('app'))
  const pool = database.pool('app', { max: 5, connectionString: proxy.url })
  const rowhouse = createRowhouse({ pool })
  proxy.delay(5)
  const callers = Array.from({ length: 4 }, async () => {
    for (let call = 0; call < 10; call++) await sql`select`.execute(rowhouse.kysely(ACME))
  })
  await Promise.all(callers)
  await rowhouse.close()
  expect(pool.idleCount).toBe(pool.totalCount)
  await pool.end()
  await proxy.close()
})
