// Each event is in exactly one invoice: in every time zone, on days with 23 and 25 hours, rolled up or not.
import { beforeAll, describe, expect, test } from 'vitest'
import type { Rowhouse } from '../../src/index.ts'
import { asRowhouseOwner, errorOf } from '../budgets/support.ts'
import { provision, rowhouseFor } from '../rate-limits/support.ts'
import { useDatabase } from '../setup/database.ts'

const database = useDatabase()
const open = rowhouseFor(database)
let rowhouse: Rowhouse
let tenants = 0
beforeAll(() => {
  rowhouse = open()
})

const MINUTE_MS = 60_000
const DAY_MS = 86_400_000

/** A tenant with one event of a cost of 1 at each of these times. */
async function tenantWithEvents(timeZone: string, times: readonly Date[], { rolledUp = true } = {}) {
  const tenant = `spans-${tenants++}`
  await provision(database, tenant)
  await rowhouse.quotas.setAccount(tenant, { timeZone })
  const { usage } = rowhouse.tenant(tenant)
  await usage.record('pattern', { money: 1 })
  // As if they had been recorded then.
  const list = times.map((time) => `'${time.toISOString()}'`).join(', ')
  await asRowhouseOwner(
    database,
    tenant,
    `insert into rowhouse.usage_events
      select (jsonb_populate_record(u, jsonb_build_object('request_id', t.number, 'occurred_at', t.at, 'quotas', array[]::text[],
          'periods', array[]::text[], 'amounts', array[]::numeric[]))).*
        from rowhouse.usage_events u, unnest(array[${list}]::timestamptz[]) with ordinality t (at, number);
    delete from rowhouse.usage_events where request_id = 'pattern'; delete from rowhouse.quota_counters`,
  )
  if (rolledUp) await rowhouse.usage.rollup()
  const costs = async (from: Date, to: Date) =>
    (await usage.report({ from, to, by: [] })).map(({ cost }) => Number(cost))
  return { tenant, usage, costs }
}

const every = (minutes: number, from: Date, to: Date) =>
  Array.from(
    { length: (to.getTime() - from.getTime()) / (minutes * MINUTE_MS) },
    (_, number) => new Date(from.getTime() + number * minutes * MINUTE_MS),
  )

describe.each([true, false])('rolled up: %s', (rolledUp) => {
  // The end of a local October, of which the offset is given in minutes.
  test.each([
    ['Asia/Kolkata', 330],
    ['Asia/Kathmandu', 345],
    ['Australia/Adelaide', 630],
    ['Pacific/Chatham', 825],
    ['America/St_Johns', -150],
    ['Europe/Berlin', 60],
  ])('%s: what is used around midnight is in one month, one day and one hour', async (timeZone, offset) => {
    const midnight = new Date(Date.UTC(2026, 10, 1) - offset * MINUTE_MS)
    const at = (minutes: number) => new Date(midnight.getTime() + minutes * MINUTE_MS)
    const times = [-61, -59, -20, -1, 0, 1, 20, 59, 61].map(at)
    const { usage, costs } = await tenantWithEvents(timeZone, times, { rolledUp })
    expect(await costs(at(-600), midnight)).toEqual([4])
    expect(await costs(midnight, at(600))).toEqual([5])
    const lines = async (period: 'hour' | 'day' | 'month') =>
      (await usage.report({ from: at(-600), to: at(600), by: [period] })).map(({ periodStart, events }) => [
        (periodStart!.getTime() - midnight.getTime()) / MINUTE_MS,
        events,
      ])
    expect(await lines('hour')).toEqual([
      [-120, 1],
      [-60, 3],
      [0, 4],
      [60, 1],
    ])
    expect((await lines('day')).map(([, events]) => events)).toEqual([4, 5])
    expect((await lines('day'))[1]![0]).toBe(0)
    expect((await lines('month')).map(([, events]) => events)).toEqual([4, 5])
    expect(await usage.reconcile()).toEqual([])
  })

  test('spans that touch anywhere share no event and lose none', async () => {
    const from = new Date(Math.floor(Date.now() / DAY_MS - 2) * DAY_MS)
    const at = (minutes: number) => new Date(from.getTime() + minutes * MINUTE_MS)
    const { costs } = await tenantWithEvents('UTC', every(1, from, at(180)), { rolledUp })
    for (const minutes of [30, 45, 60, 67, 67.5, 68.999, 179.9999]) {
      const cut = at(minutes)
      const [before = 0] = await costs(from, cut)
      const [after = 0] = await costs(cut, at(180))
      expect([before, after]).toEqual([Math.ceil(minutes), 180 - Math.ceil(minutes)])
    }
    // Both ends in one quarter of an hour.
    expect(await costs(at(1.5), at(5))).toEqual([3])
    expect(await costs(at(5), at(5))).toEqual([])
  })

  test.each([
    ['Europe/Berlin', '2026-10-24T22:00:00Z', 25],
    ['Europe/Berlin', '2026-03-28T23:00:00Z', 23],
    ['Africa/Cairo', '2026-04-23T22:00:00Z', 23],
    ['America/New_York', '2026-11-01T04:00:00Z', 25],
    ['Australia/Lord_Howe', '2026-10-03T13:30:00Z', 23.5],
  ])('%s: the day that begins at %s has %s hours', async (timeZone, start, hours) => {
    const from = new Date(start)
    const to = new Date(from.getTime() + 2 * DAY_MS)
    const { usage } = await tenantWithEvents(timeZone, every(30, from, to), { rolledUp })
    const [day] = await usage.report({ from, to, by: ['day'] })
    expect([day!.periodStart, day!.events]).toEqual([from, hours * 2])
    const byHour = await usage.report({ from, to, by: ['hour'] })
    expect(byHour.reduce((sum, { events }) => sum + events, 0)).toBe(96)
    expect(new Set(byHour.map(({ periodStart }) => periodStart!.getTime())).size).toBe(byHour.length)
  })
})

test('the control: with rollups of whole hours an event is in two invoices', async () => {
  const midnight = new Date('2026-10-31T18:30:00Z')
  const at = (minutes: number) => new Date(midnight.getTime() + minutes * MINUTE_MS)
  const { tenant, usage, costs } = await tenantWithEvents('Asia/Kolkata', [at(-20), at(20)])
  await asRowhouseOwner(
    database,
    tenant,
    `update rowhouse.usage_rollups set period_start = date_trunc('hour', period_start, 'UTC'), model = period_start`,
  )
  const [october = 0] = await costs(at(-600), midnight)
  const [november = 0] = await costs(midnight, at(600))
  expect([october, november]).not.toEqual([1, 1])
  expect((await usage.reconcile()).map(({ book }) => book)).toContain('rollups')
})

test('late events come into their quarter of an hour, before and after it is made again', async () => {
  const time = new Date(Date.now() - 3 * DAY_MS)
  const { usage, costs } = await tenantWithEvents('Asia/Kathmandu', [time])
  const span = [new Date(time.getTime() - DAY_MS), new Date(time.getTime() + DAY_MS)] as const
  await usage.record('late', { money: 2 }, { occurredAt: time })
  expect(await costs(...span)).toEqual([3])
  expect(await usage.reconcile()).toEqual([])
  expect(await rowhouse.usage.rollup()).toBe(1)
  expect(await costs(...span)).toEqual([3])
  expect(await usage.reconcile()).toEqual([])
})

test('where retention may have deleted the events, a span that cuts a quarter of an hour is refused', async () => {
  const then = new Date(Math.floor((Date.now() - 40 * DAY_MS) / (15 * MINUTE_MS)) * 15 * MINUTE_MS)
  const at = (minutes: number) => new Date(then.getTime() + minutes * MINUTE_MS)
  const { usage, costs } = await tenantWithEvents('UTC', [at(1), at(14), at(16)])
  const problem = { code: 'invalid_amount', message: expect.stringContaining('quarter of an hour') }
  for (const isSwept of [false, true]) {
    if (isSwept) expect(await usage.sweep()).toBe(3)
    expect(await costs(at(0), at(15))).toEqual([2])
    expect(await costs(at(15), at(30))).toEqual([1])
    expect(await errorOf(costs(at(0), at(5)))).toMatchObject(problem)
    expect(await errorOf(costs(at(5), at(30)))).toMatchObject(problem)
    // What is newer is cut anywhere.
    expect(await costs(at(0), new Date(Date.now() - 20 * DAY_MS - 1))).toEqual([3])
  }
})
