// Fairness, by counts: who gets how many slots, in which order, whatever the clock says.
import { beforeAll, describe, expect, test } from 'vitest'
import { functionsFile } from '../isolation/support/sql-files.ts'
import { useDatabase } from '../setup/database.ts'
import { provisionFor, QueueDriver, useRowhouse } from './support.ts'

const database = useDatabase()
const fixture = useRowhouse(database)
const SMALL = Array.from({ length: 9 }, (_, number) => `small-${number}`)

beforeAll(async () => {
  await provisionFor(fixture.rowhouse, 'large', 'light', 'strong', 'weak', ...SMALL)
  await fixture.rowhouse.quotas.set('light', 'concurrency', { limit: 2 })
})

async function queueOf(name: string, slots: number): Promise<QueueDriver> {
  await fixture.rowhouse.queues.define(name, { slots })
  return QueueDriver.open(database, name)
}

/** One tenant with 1,000 requests, and nine with one each: how many slots came free until each of the nine had its own. */
async function waitsOfTheNine(queue: QueueDriver): Promise<number[]> {
  await queue.joinMany('large', 1, 1000)
  for (const [index, tenant] of SMALL.entries()) await queue.join(tenant, 2001 + index)
  const waits = new Map<number, number>()
  for (let freed = 0; waits.size < SMALL.length && freed < 60; freed++) {
    const running = await queue.running()
    for (const number of running) if (number > 2000 && !waits.has(number)) waits.set(number, freed)
    // The one that has held its slot longest, as if all took the same time.
    const [oldest] = running.filter((number) => !(waits.get(number)! > 0 && number > 2000)).concat(running)
    await queue.leave(oldest! > 2000 ? SMALL[oldest! - 2001]! : 'large', oldest!)
  }
  return SMALL.map((_, index) => waits.get(2001 + index) ?? Number.POSITIVE_INFINITY)
}

describe('one tenant with 1,000 requests and nine with one each, at the same weight', () => {
  test('each of the nine waits at most two service times', async () => {
    // In a service time as many slots come free as there are; nine requests fit into two of them from five slots on.
    const waits = await waitsOfTheNine(await queueOf('five', 5))
    expect(Math.max(...waits)).toBeLessThanOrEqual(2 * 5)
  })

  test('on a single slot they come one after another, before the second one of the large tenant', async () => {
    const waits = await waitsOfTheNine(await queueOf('one', 1))
    expect(waits).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9])
  })

  test('the control: in the order in which they came, none of them had a slot yet', async () => {
    const owner = await database.connect('owner')
    const file = await functionsFile('queue_tickets.sql')
    const fifo = file.replace(
      'order by t.next_start, t.turn',
      `order by (select min(k.serial) from rowhouse.queue_tickets k
        where k.queue = p_queue and k.tenant_id = t.tenant_id and k.granted_at is null)`,
    )
    expect(fifo).not.toBe(file)
    await owner.query(`begin; set local role rowhouse_owner; ${fifo}; commit`)
    try {
      const waits = await waitsOfTheNine(await queueOf('fifo', 5))
      expect(Math.min(...waits)).toBe(Number.POSITIVE_INFINITY)
    } finally {
      await owner.query(`begin; set local role rowhouse_owner; ${file}; commit`)
    }
  })
})

describe('weights', () => {
  /** How many slots each got, of those that came free while both had requests that wait. */
  async function share(queue: QueueDriver, freed: number, cost = 1): Promise<{ strong: number; weak: number }> {
    const got = { strong: 0, weak: 0 }
    let next = 1
    const owners = new Map<number, 'strong' | 'weak'>()
    const add = async (tenant: 'strong' | 'weak') => {
      owners.set(next, tenant)
      await queue.join(tenant, next++, tenant === 'strong' ? cost : 1)
    }
    for (let each = 0; each < 8; each++) for (const tenant of ['strong', 'weak'] as const) await add(tenant)
    const seen = new Set(await queue.running())
    for (let turn = 0; turn < freed; turn++) {
      const [oldest] = await queue.running()
      const tenant = owners.get(oldest!)!
      await queue.leave(tenant, oldest!)
      for (const number of await queue.running()) {
        if (seen.has(number)) continue
        seen.add(number)
        got[owners.get(number)!]++
        await add(owners.get(number)!)
      }
    }
    return got
  }

  test('1 to 4 gives 1 to 4 within 10 %', async () => {
    const queue = await queueOf('weights', 4)
    await fixture.rowhouse.tenants.setTier('strong', 'strong')
    await fixture.rowhouse.queues.setShare('weights', 'strong', { weight: 4 })
    const { strong, weak } = await share(queue, 250)
    expect(strong / weak).toBeGreaterThan(4 * 0.9)
    expect(strong / weak).toBeLessThan(4 * 1.1)
  })

  test('the control: at the same weight it is 1 to 1', async () => {
    const { strong, weak } = await share(await queueOf('same', 4), 100)
    expect(Math.abs(strong - weak)).toBeLessThanOrEqual(4)
  })

  test('a request that costs four times as much counts four times', async () => {
    const { strong, weak } = await share(await queueOf('costs', 4), 100, 4)
    expect(weak / strong).toBeGreaterThan(4 * 0.9)
    expect(weak / strong).toBeLessThan(4 * 1.1)
  })
})

test('a tenant at its own limit leaves slots to others, and has not saved up turns afterwards', async () => {
  const queue = await queueOf('limit', 6)
  await queue.joinMany('light', 1, 100)
  expect(await queue.running()).toEqual([1, 2])
  await queue.joinMany('large', 101, 200)
  expect(await queue.running()).toEqual([1, 2, 101, 102, 103, 104])
  // The large tenant moves on by twenty turns; the light one waits for its own slots meanwhile.
  for (let number = 101; number < 121; number++) await queue.leave('large', number)
  await fixture.rowhouse.quotas.set('light', 'concurrency', { limit: 100 })
  await queue.join('light', 999)
  const before = new Set(await queue.running())
  for (const number of [121, 122, 123, 124]) await queue.leave('large', number)
  const given = (await queue.running()).filter((number) => !before.has(number))
  // One for the turn that it missed; from then on in turn.
  expect(given.filter((number) => number <= 100).length).toBeLessThanOrEqual(3)
  expect(given.filter((number) => number > 100).length).toBeGreaterThanOrEqual(1)
})

test('who was away has not saved up turns', async () => {
  const queue = await queueOf('away', 1)
  await queue.join('weak', 1)
  await queue.leave('weak', 1)
  await queue.joinMany('large', 101, 140)
  for (let number = 101; number < 131; number++) await queue.leave('large', number)
  await queue.joinMany('weak', 201, 210)
  const order: number[] = []
  for (let turn = 0; turn < 8; turn++) {
    const [number] = await queue.running()
    order.push(number!)
    await queue.leave(number! > 200 ? 'weak' : 'large', number!)
  }
  expect(order.filter((number) => number > 200)).toHaveLength(4)
})
