// How processes hear that they got a slot: by notification on one connection, and without it by asking.
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeAll, expect, test } from 'vitest'
import type { Rowhouse } from '../../src/index.ts'
import { openRowhouse } from '../audit/support.ts'
import { useDatabase } from '../setup/database.ts'
import { startProxy } from '../setup/proxy.ts'
import { provisionFor, useRowhouse } from './support.ts'

const database = useDatabase({ needs: ['parallelBackends'] })
const fixture = useRowhouse(database)
const opened: Rowhouse[] = []
const TENANTS = ['w-1', 'w-2', 'w-3']
beforeAll(async () => {
  await provisionFor(fixture.rowhouse, ...TENANTS)
  await fixture.rowhouse.queues.define('gpu', { slots: 1 })
})
afterEach(async () => {
  for (const rowhouse of opened.splice(0)) await rowhouse.close()
})

/** A process of its own, as far as rowhouse can tell. */
function open(options = {}): Rowhouse {
  const rowhouse = openRowhouse(database, options)
  opened.push(rowhouse)
  return rowhouse
}

async function listeners(): Promise<number> {
  const { rows } = await fixture.operator.query(
    "select from pg_stat_activity where datname = current_database() and application_name = 'rowhouse notifications'",
  )
  return rows.length
}

/** How long after a slot was given back somebody else had it, in turns. */
async function handOvers(holder: Rowhouse, waiter: Rowhouse, times: number): Promise<number[]> {
  const delays: number[] = []
  for (let time = 0; time < times; time++) {
    const held = await holder.tenant('w-1').queue('gpu').acquire()
    const waiting = waiter.tenant('w-2').queue('gpu').acquire()
    await sleep(150)
    const begun = performance.now()
    await held.release()
    const slot = await waiting
    delays.push(performance.now() - begun)
    await slot.release()
  }
  return delays
}

test('a slot that another process gives back is heard at once', async () => {
  // Without notifications it would take more than a second, see the control.
  const delays = await handOvers(open(), open(), 4)
  expect(Math.min(...delays)).toBeLessThan(1000)
})

test('one connection listens for all tenants and queues of a process, and for changes of tenants; none when nobody waits', async () => {
  const rowhouse = open()
  await expect.poll(listeners).toBe(0)
  await fixture.rowhouse.queues.define('other', { slots: 0 })
  const giveUp = new AbortController()
  const waiting = TENANTS.flatMap((tenant) =>
    ['other', 'other'].map((queue) => rowhouse.tenant(tenant).queue(queue).acquire({ signal: giveUp.signal })),
  )
  const heard: string[] = []
  const stop = rowhouse.watchTenants({ changed: () => heard.push('changed'), listening: () => heard.push('listening') })
  await expect.poll(listeners).toBe(1)
  await expect.poll(() => heard).toContain('listening')
  await fixture.rowhouse.tenants.provision('changed')
  await fixture.rowhouse.tenants.suspend('changed')
  await expect.poll(() => heard).toContain('changed')
  giveUp.abort()
  await Promise.allSettled(waiting)
  expect(await listeners()).toBe(1)
  stop()
  await expect.poll(listeners).toBe(0)
})

test('what is announced names no tenant and no ticket', async () => {
  const client = await database.connect('app')
  const payloads: string[] = []
  client.on('notification', ({ payload }) => payloads.push(payload!))
  await client.query('listen rowhouse_queues')
  const held = await fixture.rowhouse.tenant('w-1').queue('gpu').acquire()
  const ticket = await fixture.rowhouse.tenant('w-2').queue('gpu').enqueue()
  await held.release()
  await expect.poll(() => payloads).toHaveLength(1)
  expect(payloads[0]).toMatch(/^[0-9a-f]{32}$/)
  expect(payloads[0]).not.toContain(ticket.id.replaceAll('-', '').slice(0, 8))
  await ticket.cancel()
})

test('a forged notification makes a process ask, and nothing else', async () => {
  const rowhouse = open()
  const held = await rowhouse.tenant('w-1').queue('gpu').acquire()
  const waiting = rowhouse.tenant('w-2').queue('gpu').acquire()
  const client = await database.connect('app')
  await client.query("notify rowhouse_queues, 'nonsense'; notify rowhouse_queues")
  await sleep(50)
  expect(await rowhouse.tenant('w-2').queue('gpu').utilization()).toMatchObject({ running: 0, waiting: 1 })
  await held.release()
  await (await waiting).release()
})

test('without notifications slots are heard of by asking, and nobody loses its place', async () => {
  // The pool works, and the connection that would listen comes to nothing: what a pooler in transaction mode is like.
  await using proxy = await startProxy(database.url('app'))
  const holder = open()
  const pool = database.pool('app', { connectionString: proxy.url, max: 2 })
  const waiter = open({ pool })
  // Connections that are open already go on.
  await waiter.query('w-2', (db) => db.selectFrom('rowhouse.queue_requests').select('ticket'))
  const held = await holder.tenant('w-1').queue('gpu').acquire()
  const first = waiter.tenant('w-2').queue('gpu').acquire()
  await expect.poll(listeners).toBe(1)
  proxy.cut()
  await held.release()
  const slot = await first
  await slot.release()
  // And with a listener that is never connected at all.
  Object.assign(pool.options, { port: 1, connectionString: undefined, host: '127.0.0.1' })
  const deaf = open({ pool: database.pool('app', { max: 2 }) })
  const delays = await handOvers(holder, deaf, 3)
  expect(Math.max(...delays)).toBeLessThan(5000)
})

test('the control: the process that only asks is slower than the one that hears', async () => {
  const { QueueWaiters } = await import('../../src/queues/queue-waiters.ts')
  const { QueueStatements } = await import('../../src/queues/queue-statements.ts')
  const rowhouse = open()
  const db = rowhouse.kysely('w-2')
  const statements = new QueueStatements(
    { tenantId: 'w-2', db, calls: db, callsOfSeveral: undefined, caller: {}, transaction: () => Promise.reject() },
    'gpu',
  )
  // Announcements that never come, from a connection that says it listens.
  const deaf = new QueueWaiters({
    subscribe: (_: string, subscriber: { listening(): void; notified(payload: string): void }) => {
      subscriber.listening()
      subscriber.notified('')
      return () => {}
    },
  } as never)
  const held = await rowhouse.tenant('w-1').queue('gpu').acquire()
  const ticket = await rowhouse.tenant('w-2').queue('gpu').enqueue()
  let asked = Number.NaN
  const renew = statements.renew.bind(statements)
  statements.renew = async (tickets) => {
    const states = await renew(tickets)
    if (states[0]!.status === 'waiting') asked = performance.now()
    return states
  }
  const waiting = deaf.wait(statements, ticket.id, 15_000, new AbortController().signal, Number.POSITIVE_INFINITY)
  await expect.poll(() => asked).toBeGreaterThan(0)
  await held.release()
  await waiting
  // It asks again when its time has come, however early the slot came free.
  expect(performance.now() - asked).toBeGreaterThan(1400)
  await ticket.cancel()
})
