// Connections break, stall and run out: nothing is lost, and what is repeated is told by its id.
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { ConnectionSource } from '../../src/context/connection-source.ts'
import { Notifications } from '../../src/context/notifications.ts'
import { useDatabase } from '../setup/database.ts'
import { startProxy } from '../setup/proxy.ts'
import { ACME, collect, useRealtime } from './support.ts'

const database = useDatabase({ needs: ['parallelBackends'] })
const fixture = useRealtime(database)
const publish = (name: string, payload: unknown) => fixture.rowhouse.tenant(ACME).channel(name).publish(payload)
const numbers = (count: number) => Array.from({ length: count }, (_, n) => n)

/** A process whose connections lead through a proxy. */
async function throughProxy(options = {}, poolOptions = {}) {
  const proxy = await startProxy(database.url('app'))
  const pool = database.pool('app', {
    connectionString: proxy.url,
    max: 3,
    connectionTimeoutMillis: 300,
    ...poolOptions,
  })
  const rowhouse = fixture.open({ pool, ...options })
  return { proxy, pool, rowhouse, [Symbol.asyncDispose]: () => proxy.close() }
}

test('every connection is cut again and again while somebody publishes: all arrive once, in order', async () => {
  await using process = await throughProxy()
  const received = collect<number>()
  await using subscription = await process.rowhouse.tenant(ACME).channel('cut').subscribe(received.handler)
  for (const n of numbers(60)) {
    if (n % 20 === 7) process.proxy.cut()
    await publish('cut', n)
    await sleep(20)
  }
  expect(await received.until(60, 15_000)).toEqual(numbers(60))
  await sleep(100)
  expect(received.payloads).toEqual(numbers(60))
  expect(subscription.lastId).toBe(received.messages.at(-1)!.id)
})

test('what is published while the listening connection is gone arrives when it is back', async () => {
  await using process = await throughProxy()
  const received = collect<number>()
  await using _subscription = await process.rowhouse.tenant(ACME).channel('gone').subscribe(received.handler)
  await publish('gone', 0)
  await received.until(1)
  process.proxy.pause()
  process.proxy.cut()
  for (const n of [1, 2, 3]) await publish('gone', n)
  await sleep(300)
  expect(received.payloads).toEqual([0])
  process.proxy.resume()
  expect(await received.until(4, 15_000)).toEqual(numbers(4))
})

test('the control: without looking again after the reconnect they would be missing', async () => {
  const listener = await database.connect('app')
  const heard: string[] = []
  listener.on('notification', ({ payload }) => heard.push(payload!))
  await publish('control', 0)
  await listener.query('listen rowhouse_channels')
  await publish('control', 1)
  await expect.poll(() => heard.length).toBe(1)
  await sleep(50)
  expect(heard).toHaveLength(1)
})

describe('a listening connection that the network forgot', () => {
  test('is made up for by looking now and then', async () => {
    // Connections of the pool are closed at once, so only the listening one is there to be forgotten.
    await using process = await throughProxy({ channels: { pollMs: 200 } }, { idleTimeoutMillis: 1 })
    const { proxy, pool, rowhouse } = process
    const received = collect<number>()
    await using _subscription = await rowhouse.tenant(ACME).channel('silent').subscribe(received.handler)
    await publish('silent', 0)
    await received.until(1)
    await expect.poll(() => pool.totalCount).toBe(0)
    proxy.halfOpen()
    proxy.resume()
    await publish('silent', 1)
    expect(await received.until(2)).toEqual([0, 1])
  })

  test('holds up a read of the pool no longer than a second or a look', async () => {
    await using process = await throughProxy({ channels: { pollMs: 500 } })
    const { proxy, pool, rowhouse } = process
    const received = collect<number>()
    await using _subscription = await rowhouse.tenant(ACME).channel('stuck').subscribe(received.handler)
    await publish('stuck', 0)
    await received.until(1)
    // The next read is sent over a connection that nobody answers on.
    await expect.poll(() => pool.idleCount).toBeGreaterThan(0)
    proxy.halfOpen()
    proxy.resume()
    await publish('stuck', 1)
    expect(await received.until(2, 15_000)).toEqual([0, 1])
  })

  test('is noticed by asking it, and opened again', async () => {
    const { proxy, pool } = await throughProxy()
    await using _proxy = proxy
    const open = (pingMs: number) => {
      const notifications = new Notifications(new ConnectionSource({ pool, owned: false, pipeline: false }), { pingMs })
      const events: string[] = []
      notifications.subscribe('rowhouse_channels', {
        notified: (payload) => events.push(payload),
        lost: () => events.push('lost'),
        listening: () => events.push('listening'),
      })
      return { notifications, events }
    }
    const [asking, silent] = [open(1000), open(60_000)]
    for (const { events } of [asking, silent]) await expect.poll(() => events).toEqual(['listening'])
    await sleep(2500)
    // The control: one that answers is left alone.
    expect(asking.events).toEqual(['listening'])
    proxy.halfOpen()
    proxy.resume()
    await expect.poll(() => asking.events).toEqual(['listening', 'lost', 'listening'])
    await fixture.app.query("notify rowhouse_channels, 'heard'")
    await expect.poll(() => asking.events.at(-1)).toBe('heard')
    // The control: without asking nobody notices.
    expect(silent.events).toEqual(['listening'])
    await asking.notifications.close()
    // And closing does not wait for a connection on which nobody answers.
    const begun = performance.now()
    await silent.notifications.close()
    expect(performance.now() - begun).toBeLessThan(10_000)
  })
})

test('a subscriber that ended goes on after its last id, and knows a repeat by it', async () => {
  const first: number[] = []
  const room = fixture.open().tenant(ACME).channel('resumed')
  const subscription = await room.subscribe<number>(({ payload }) => {
    if (payload === 5) throw new Error('crash in the middle of 5')
    first.push(payload)
  })
  for (const n of numbers(10)) await publish('resumed', n)
  await expect(subscription.ended).rejects.toThrow('crash')
  const received = collect<number>()
  await using _resumed = await room.subscribe<number>(received.handler, { after: subscription.lastId })
  expect([...first, ...(await received.until(5))]).toEqual(numbers(10))
  // Handed out once more from an older id, the ids say which were seen.
  const repeats = await room.read({ after: subscription.lastId - 2 })
  expect(repeats.filter(({ id }) => id > subscription.lastId).map(({ payload }) => payload)).toEqual([5, 6, 7, 8, 9])
})

describe('a pool without a free connection', () => {
  test('publishing and subscribing say so; a subscription that exists waits and misses nothing', async () => {
    const pool = database.pool('app', { max: 1, connectionTimeoutMillis: 200 })
    const rowhouse = fixture.open({ pool })
    const received = collect()
    await using _subscription = await rowhouse.tenant(ACME).channel('busy').subscribe(received.handler)
    await rowhouse.tenant(ACME).channel('busy').read()
    const held = await pool.connect()
    try {
      const error = { code: 'connection_failed', message: expect.stringContaining('All 1 connections') }
      await expect(rowhouse.tenant(ACME).channel('busy').publish(1)).rejects.toMatchObject(error)
      await expect(
        rowhouse
          .tenant(ACME)
          .channel('busy')
          .subscribe(() => {}),
      ).rejects.toMatchObject(error)
      await publish('busy', 'kept')
      await sleep(500)
      expect(received.payloads).toEqual([])
    } finally {
      held.release()
    }
    expect(await received.until(1)).toEqual(['kept'])
  })
})

test('slow handlers hold up neither publishers nor other subscriptions', async () => {
  const rowhouse = fixture.open()
  const received = collect<number>()
  let release = () => {}
  const stuck = new Promise<void>((resolve) => {
    release = resolve
  })
  await using slow = await rowhouse
    .tenant(ACME)
    .channel('slow')
    .subscribe(() => stuck)
  await using _fast = await rowhouse.tenant(ACME).channel('slow').subscribe<number>(received.handler)
  for (const n of numbers(20)) await publish('slow', n)
  expect(await received.until(20)).toEqual(numbers(20))
  expect(slow.lastId).toBeLessThan(received.messages[0]!.id)
  release()
  await expect.poll(() => slow.lastId).toBe(received.messages.at(-1)!.id)
})
