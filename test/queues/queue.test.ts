// tenant.queue: waiting for slots, giving them back, deadlines, cancellation, limits, and what it refuses.
import { setTimeout as sleep } from 'node:timers/promises'
import { beforeAll, describe, expect, test } from 'vitest'
import { QueueTimeoutError, type Rowhouse, TenantSuspendedError } from '../../src/index.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { errorOf, giveBack, provisionFor, QueueDriver, useRowhouse } from './support.ts'

const database = useDatabase()
const fixture = useRowhouse(database)
let rowhouse: Rowhouse
let queues = 0
beforeAll(async () => {
  rowhouse = fixture.rowhouse
  await provisionFor(rowhouse, 'one', 'two')
})

/** A queue of its own for each test. */
async function open(slots = 1) {
  const name = `q-${queues++}`
  await rowhouse.queues.define(name, { slots })
  return {
    name,
    one: rowhouse.tenant('one', { userId: 'u_1', requestId: 'r_1' }).queue(name),
    two: rowhouse.tenant('two').queue(name),
  }
}

describe('run', () => {
  test('runs in a slot, one after another, and returns what the work returns', async () => {
    const { one, two, name } = await open(2)
    let atOnce = 0
    let most = 0
    const work = async () => {
      most = Math.max(most, ++atOnce)
      await sleep(20)
      atOnce--
      return 'done'
    }
    const calls = Array.from({ length: 12 }, (_, call) => (call % 2 === 0 ? one : two).run(work))
    expect(new Set(await Promise.all(calls))).toEqual(new Set(['done']))
    expect(most).toBe(2)
    expect(await rowhouse.queues.utilization(name)).toEqual([
      { queue: name, slots: 2, running: 0, waiting: 0, utilization: 0, tenants: [] },
    ])
  })

  test('gives the slot back when the work fails', async () => {
    const { one } = await open()
    await expect(one.run(() => Promise.reject(new Error('broken')))).rejects.toThrow('broken')
    expect(await one.run(({ ticket }) => ticket, { deadlineMs: 2000 })).toMatch(/^[0-9a-f-]{36}$/)
  })

  test('renews its lease while the work runs; the signal aborts when it was lost', async () => {
    const { one, two, name } = await open()
    await one.run(
      async ({ signal }) => {
        await sleep(4000)
        expect(signal.aborted).toBe(false)
        expect(await two.utilization()).toMatchObject({ running: 0 })
      },
      { leaseMs: 1500 },
    )
    const owner = await database.connect('owner')
    const lost = one.run(
      async ({ signal }) => {
        await owner.query(
          `begin; set local role rowhouse_owner; update rowhouse.queue_tickets set expires_at = '-infinity' where queue = '${name}'; commit`,
        )
        const next = await two.acquire()
        await expect.poll(() => signal.aborted).toBe(true)
        await next.release()
        return (signal.reason as { code: string }).code
      },
      { leaseMs: 600 },
    )
    expect(await lost).toBe('slot_lost')
  })

  test('no connection is in use while requests wait and work', needs('parallelBackends'), async () => {
    const { name } = await open(3)
    const pool = database.pool('app', { max: 1 })
    const own = (await import('../../src/index.ts')).createRowhouse({ pool })
    const busy: number[] = []
    const queue = own.tenant('one').queue(name)
    await Promise.all(
      Array.from({ length: 9 }, () =>
        queue.run(async () => {
          await sleep(30)
          busy.push(pool.totalCount - pool.idleCount)
          await own.query('one', (db) => db.selectFrom('rowhouse.queue_requests').select('ticket'))
        }),
      ),
    )
    expect(busy).toHaveLength(9)
    await own.close()
  })
})

describe('acquire and enqueue', () => {
  test('a request waits for a slot, knows its place, and gets the slot when it is given back', async () => {
    const { one, two, name } = await open()
    const held = await one.acquire()
    const tickets = [await one.enqueue(), await two.enqueue(), await one.enqueue()]
    const [first, other, second] = tickets
    expect(await first!.position()).toMatchObject({ status: 'waiting', place: 1 })
    expect(await second!.position()).toMatchObject({ status: 'waiting', place: 2 })
    expect(await other!.position()).toMatchObject({ status: 'waiting', place: 1, estimatedWaitMs: undefined })
    expect(await one.utilization()).toEqual({
      weight: 1,
      maxRunning: undefined,
      maxWaiting: 10_000,
      running: 1,
      waiting: 2,
    })
    expect(await rowhouse.queues.utilization(name)).toMatchObject([
      { running: 1, waiting: 3, utilization: 1, tenants: [{ tenantId: 'one', running: 1 }, { tenantId: 'two' }] },
    ])
    const waiting = other!.wait()
    await sleep(50)
    expect(await held.release()).toBe(true)
    expect(await held.release()).toBe(false)
    const slot = await waiting
    expect(slot.ticket).toBe(other!.id)
    expect(slot.expiresAt.getTime()).toBeGreaterThan(Date.now() + 10_000)
    // What was held for 50 ms, and two more before it.
    const { ahead, estimatedWaitMs } = await second!.position()
    expect(ahead).toBe(1)
    expect(estimatedWaitMs).toBeGreaterThan(50)
    expect(await two.position(slot.ticket)).toEqual({ status: 'running', place: 0, ahead: 0, estimatedWaitMs: 0 })
    await giveBack(slot, first!, second!)
    expect((await first!.position()).status).toBe('gone')
    expect(await first!.cancel()).toBe(false)
  })

  test('another process goes on with a ticket', async () => {
    const { one } = await open()
    const held = await one.acquire()
    const { id } = await one.enqueue()
    const ticket = one.ticket(id)
    expect(await ticket.renew()).toBe('waiting')
    await held.release()
    expect(await ticket.renew()).toBe('running')
    const slot = await ticket.wait()
    await slot.renew()
    await slot.release()
    expect(await ticket.renew()).toBe('gone')
    expect((await errorOf(slot.renew())).code).toBe('slot_lost')
  })

  test('a place and a slot end by the clock of the database unless they are renewed', async () => {
    const { one, two } = await open()
    await one.acquire({ leaseMs: 1000 })
    const forgotten = await one.enqueue({ keepMs: 100 })
    const slot = await two.acquire({ deadlineMs: 5000 })
    expect(await forgotten.renew()).toBe('gone')
    await slot.release()
  })

  test('rows of requests are those of the tenant, and go with them', async () => {
    const { one, name } = await open()
    const slot = await one.acquire({ cost: 3 })
    const rows = () =>
      rowhouse.query('one', (db) => db.selectFrom('rowhouse.queue_requests').selectAll().where('queue', '=', name))
    expect(await rows()).toMatchObject([{ ticket: slot.ticket, cost: 3, user_id: 'u_1', request_id: 'r_1' }])
    await slot.release()
    expect(await rows()).toEqual([])
    await rowhouse.sweep({ tenantId: 'one' })
    await one.enqueue({ keepMs: 100, leaseMs: 100 })
    await sleep(150)
    await rowhouse.queues.utilization(name)
    expect(await rowhouse.sweep({ tenantId: 'one' })).toMatchObject([{ queueRequests: 1 }])
    expect(await rows()).toEqual([])
  })
})

describe('deadlines and cancellation', () => {
  test('a deadline that passes is an error with the position, and the place is free', async () => {
    const { one, two } = await open()
    await one.run(() => sleep(20))
    const held = await one.acquire()
    const error = await errorOf<QueueTimeoutError>(two.acquire({ deadlineMs: 150 }))
    expect(error).toBeInstanceOf(QueueTimeoutError)
    expect(error).toMatchObject({ code: 'queue_timeout', httpStatus: 503, retryable: true })
    expect(error.position).toMatchObject({ status: 'waiting', place: 1, ahead: 0 })
    expect(error.retryAfterMs).toBeGreaterThan(0)
    expect(await two.utilization()).toMatchObject({ waiting: 0 })
    await held.release()
  })

  test('a deadline of 0 asks without waiting', async () => {
    const { one, two } = await open()
    const held = await one.acquire({ deadlineMs: 0 })
    expect((await errorOf(two.acquire({ deadlineMs: 0 }))).code).toBe('queue_timeout')
    await held.release()
  })

  test('a signal ends the waiting, and aborts the work', async () => {
    const { one, two } = await open()
    const held = await one.acquire()
    const giveUp = new AbortController()
    const waiting = two.acquire({ signal: giveUp.signal })
    await sleep(50)
    giveUp.abort(new Error('enough'))
    await expect(waiting).rejects.toThrow('enough')
    await expect.poll(() => two.utilization()).toMatchObject({ waiting: 0 })
    await held.release()
    const stop = new AbortController()
    const work = one.run(
      async ({ signal }) => {
        stop.abort(new Error('stopped'))
        signal.throwIfAborted()
      },
      { signal: stop.signal },
    )
    await expect(work).rejects.toThrow('stopped')
    await expect(one.run(() => 1, { signal: stop.signal })).rejects.toThrow('stopped')
  })
})

describe('limits', () => {
  test('a tenant holds no more slots than its share, and its quotas of slots, allow', async () => {
    const { one, two, name } = await open(10)
    await rowhouse.queues.setShare(name, 'queue', { maxRunning: 3 })
    const tickets = await Promise.all(Array.from({ length: 5 }, () => one.enqueue()))
    expect(await one.utilization()).toMatchObject({ maxRunning: 3, running: 3, waiting: 2 })
    await rowhouse.quotas.set('two', 'concurrency', { limit: 2 })
    const others = await Promise.all(Array.from({ length: 5 }, () => two.enqueue()))
    expect(await two.utilization()).toMatchObject({ maxRunning: 2, running: 2, waiting: 3 })
    await giveBack(...tickets, ...others)
    await rowhouse.quotas.set('two', 'concurrency', { limit: null })
  })

  test('more requests than may wait are refused, and nothing of them stays', async () => {
    const { one, name } = await open(1)
    await rowhouse.queues.setShare(name, 'queue', { maxWaiting: 2 })
    const tickets = [await one.enqueue(), await one.enqueue(), await one.enqueue()]
    const error = await errorOf(one.enqueue())
    expect(error).toMatchObject({ code: 'queue_full', httpStatus: 429, retryable: true })
    expect(await one.utilization()).toMatchObject({ running: 1, waiting: 2 })
    const driver = await QueueDriver.open(database, name)
    expect(await driver.differences()).toEqual([])
    await giveBack(...tickets)
  })

  test('fewer slots than are in use: none is given out until enough came back; 0 stops the queue', async () => {
    const { one, two, name } = await open(3)
    const held = [await one.acquire(), await one.acquire(), await one.acquire()]
    await rowhouse.queues.define(name, { slots: 1 })
    const ticket = await two.enqueue()
    await giveBack(held[0]!, held[1]!)
    expect(await ticket.renew()).toBe('waiting')
    await giveBack(held[2]!)
    expect(await ticket.renew()).toBe('running')
    await rowhouse.queues.define(name, { slots: 0 })
    await giveBack(ticket)
    expect((await errorOf(one.acquire({ deadlineMs: 50 }))).code).toBe('queue_timeout')
    const last = await one.enqueue()
    await rowhouse.queues.define(name, { slots: 5 })
    expect(await last.renew()).toBe('running')
    await rowhouse.queues.drop(name)
    expect((await errorOf(last.renew())).code).toBe('unknown_queue')
  })
})

describe('tenants that may not work', () => {
  test('a suspension ends what waits, and the rest with its lease; an erasure leaves nothing', async () => {
    await provisionFor(rowhouse, 'leaving')
    const { name, one } = await open()
    const queue = rowhouse.tenant('leaving').queue(name)
    await queue.acquire()
    const waiting = queue.acquire()
    await expect.poll(() => queue.utilization()).toMatchObject({ waiting: 1 })
    await rowhouse.tenants.suspend('leaving')
    await expect(waiting).rejects.toBeInstanceOf(TenantSuspendedError)
    expect(await rowhouse.queues.utilization(name)).toMatchObject([{ running: 1, waiting: 0 }])
    const mine = one.acquire()
    const receipt = await rowhouse.tenants.erase('leaving')
    expect(receipt.tables['rowhouse.queue_requests']).toBe(2)
    await (await mine).release()
    const driver = await QueueDriver.open(database, name)
    expect(await driver.tickets()).toEqual([])
    expect(await driver.differences()).toEqual([])
  })
})

test('an erasure that takes long does not hold up the queues of others', needs('parallelBackends'), async () => {
  await provisionFor(rowhouse, 'erased-slowly')
  const { name, one } = await open()
  const slot = await rowhouse.tenant('erased-slowly').queue(name).acquire({ leaseMs: 1000 })
  const owner = await database.connect('owner')
  await owner.query(
    "begin; set local role rowhouse_owner; update rowhouse.tenants set status = 'erasing' where tenant_id = 'erased-slowly'",
  )
  const next = await one.acquire({ deadlineMs: 8000 })
  expect(next.ticket).not.toBe(slot.ticket)
  await next.release()
  await owner.query('rollback')
})

describe('what is refused', () => {
  test('waiting inside of withTenant, whose transaction would stay open', async () => {
    const { name, one } = await open()
    await rowhouse.withTenant('one', async (_, tenant) => {
      for (const queue of [tenant.queue(name), one]) {
        expect((await errorOf(queue.run(() => 1))).code).toBe('invalid_argument')
        expect((await errorOf(queue.enqueue())).code).toBe('invalid_argument')
      }
      expect(await tenant.queue(name).utilization()).toMatchObject({ running: 0 })
    })
    expect((await errorOf(rowhouse.withTenant('two', () => one.run(() => 1)))).code).toBe('tenant_mismatch')
  })

  test.each([
    ['a cost of 0', { cost: 0 }, 'The request: cost is less than 0.000001.'],
    ['a cost that is no number', { cost: Number.NaN }, 'The request: cost is not a number.'],
    ['a deadline of two days', { deadlineMs: 172_800_000 }, 'The request: deadlineMs is more than a day.'],
    ['a lease of a fraction', { leaseMs: 100.5 }, 'The request: leaseMs is not a whole number.'],
    ['something else', { priority: 1 }, 'The request unrecognized key: "priority".'],
  ])('%s', async (_, request, message) => {
    const error = await errorOf((await open()).one.enqueue(request as never))
    expect(error).toMatchObject({ code: 'invalid_queue_request', message, httpStatus: 400 })
  })

  test('names, tickets, queues and shares that are none', async () => {
    const { one, name } = await open()
    const acme = rowhouse.tenant('one')
    expect(() => acme.queue('No Queue')).toThrow('The name of the queue is not 1 to 63 small letters')
    expect(() => one.ticket('7')).toThrow('The ticket is not a UUID')
    expect((await errorOf(acme.queue('unknown').run(() => 1))).code).toBe('unknown_queue')
    expect((await errorOf(acme.queue('unknown').utilization())).message).toBe('there is no queue "unknown"')
    expect((await errorOf(rowhouse.queues.setShare('unknown', '*', {}))).code).toBe('unknown_queue')
    expect((await errorOf(rowhouse.queues.setShare(name, '*', { weight: 0 }))).code).toBe('invalid_queue_request')
    expect((await errorOf(rowhouse.queues.define('X', { slots: 1 }))).code).toBe('invalid_queue_request')
    expect((await errorOf(rowhouse.queues.define(name, { slots: -1 }))).code).toBe('invalid_queue_request')
  })

  test('the queue called default is there', async () => {
    expect(
      await rowhouse
        .tenant('one')
        .queue()
        .run(() => 'ran'),
    ).toBe('ran')
  })
})
