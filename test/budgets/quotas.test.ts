// Which limits hold for a tenant, and when their periods begin.
import { setTimeout as sleep } from 'node:timers/promises'
import * as fc from 'fast-check'
import { sql } from 'kysely'
import type pg from 'pg'
import { beforeAll, describe, expect, test } from 'vitest'
import type { Rowhouse } from '../../src/index.ts'
import { provision, rowhouseFor } from '../rate-limits/support.ts'
import { useDatabase } from '../setup/database.ts'
import { differences, errorOf } from './support.ts'

const database = useDatabase()
const open = rowhouseFor(database)
let rowhouse: Rowhouse
let owner: pg.Client
beforeAll(async () => {
  rowhouse = open()
  owner = await database.connect('owner')
  await provision(database, 'acme', 'globex')
})

const quotaOf = async (tenant: string, name: string) =>
  (await rowhouse.tenant(tenant).budget.checkQuotas()).find((quota) => quota.name === name)

describe('limits', () => {
  test('are those of the tenant, of its tier, or of all tiers', async () => {
    expect(await quotaOf('acme', 'money_per_month')).toMatchObject({
      metric: 'money',
      period: 'month',
      source: 'tier',
      limit: 5,
      softLimit: 4,
      used: 0,
      reserved: 0,
      overrun: 0,
      free: 5,
    })
    await rowhouse.tenants.setTier('acme', 'gold')
    expect(await quotaOf('acme', 'money_per_month')).toMatchObject({ source: 'default', limit: 5 })
    await rowhouse.quotas.setDefault('gold', 'money_per_month', { limit: 70 })
    expect(await quotaOf('acme', 'money_per_month')).toMatchObject({ source: 'tier', limit: 70, softLimit: undefined })
    await rowhouse.quotas.set('acme', 'money_per_month', { limit: null, softLimit: 9 })
    const own = await quotaOf('acme', 'money_per_month')
    expect(own).toMatchObject({ source: 'tenant', softLimit: 9 })
    expect([own?.limit, own?.free]).toEqual([undefined, undefined])
    await rowhouse.quotas.set('acme', 'money_per_month', null)
    await rowhouse.quotas.setDefault('gold', 'money_per_month', null)
    expect(await quotaOf('acme', 'money_per_month')).toMatchObject({ source: 'default', limit: 5 })
    expect(await quotaOf('globex', 'money_per_month')).toMatchObject({ source: 'tier', limit: 5 })
  })

  test('can be lowered below what is used: nothing more is admitted, and nothing is lost', async () => {
    const { budget } = rowhouse.tenant('globex')
    await rowhouse.quotas.define('pages', { metric: 'pages', period: 'total' })
    await rowhouse.quotas.set('globex', 'pages', { limit: 10 })
    const { requestId } = await budget.admit({ units: { pages: 6 }, rateLimit: null })
    await rowhouse.quotas.set('globex', 'pages', { limit: 2 })
    expect(await quotaOf('globex', 'pages')).toMatchObject({ limit: 2, reserved: 6, free: 0 })
    expect((await errorOf(budget.admit({ units: { pages: 1 }, rateLimit: null }))).code).toBe('quota_exceeded')
    await budget.settle(requestId, { pages: 6 })
    expect(await quotaOf('globex', 'pages')).toMatchObject({ limit: 2, used: 6, overrun: 0, free: 0 })
  })

  test.for<[string, () => Promise<void>, string]>([
    ['an unknown quota', () => rowhouse.quotas.set('acme', 'nothing', { limit: 1 }), 'unknown_quota'],
    ['a negative limit', () => rowhouse.quotas.set('acme', 'concurrency', { limit: -1 }), 'invalid_quota'],
    ['NaN', () => rowhouse.quotas.set('acme', 'concurrency', { limit: Number.NaN }), 'invalid_quota'],
    ['a tier that is none', () => rowhouse.quotas.setDefault('No!', 'concurrency', { limit: 1 }), 'invalid_quota'],
    [
      'a period that is none',
      () => rowhouse.quotas.define('x', { metric: 'x', period: 'decade' as never }),
      'invalid_quota',
    ],
    [
      'rolling without a length',
      () => rowhouse.quotas.define('x', { metric: 'x', period: 'rolling' }),
      'invalid_quota',
    ],
    ['another meaning', () => rowhouse.quotas.define('concurrency', { metric: 'x', period: 'day' }), 'invalid_quota'],
    ['a zone that is none', () => rowhouse.quotas.setAccount('acme', { timeZone: 'Mars/Base' }), 'invalid_quota'],
    ['a currency that is none', () => rowhouse.quotas.setAccount('acme', { currency: '$' }), 'invalid_quota'],
    ['an unknown tenant', () => rowhouse.quotas.set('nobody', 'concurrency', { limit: 1 }), 'tenant_not_found'],
  ])('refused: %s', async ([, call, code]) => {
    expect((await errorOf(call())).code).toBe(code)
  })
})

test('the currency of a tenant stays once it has usage', async () => {
  await provision(database, 'francs')
  await rowhouse.quotas.setAccount('francs', { currency: 'CHF' })
  const { budget } = rowhouse.tenant('francs')
  await budget.settle((await budget.admit({ units: { money: 1 } })).requestId, { money: 1 })
  const change = rowhouse.quotas.setAccount('francs', { currency: 'EUR' })
  expect((await errorOf(change)).message).toContain('usage in another currency')
  await rowhouse.quotas.setAccount('francs', { currency: 'CHF', timeZone: 'Europe/Zurich' })
})

test('counters of a rolling quota are swept, and the books balance all the same', async () => {
  await provision(database, 'sweeper')
  await rowhouse.quotas.define('per_second', { metric: 'requests', period: 'rolling', windowMs: 1000 })
  await rowhouse.quotas.set('sweeper', 'per_second', { limit: 1000 })
  const { budget } = rowhouse.tenant('sweeper')
  const outlived = async () => {
    const { rows } = await rowhouse.withTenant('sweeper', (db) =>
      sql`select from rowhouse.quota_counters
        where name = 'per_second' and period_start < clock_timestamp() - interval '3 seconds'`.execute(db),
    )
    return rows.length
  }
  let calls = 0
  for (const begun = performance.now(); performance.now() - begun < 4000; calls++) {
    const { requestId } = await budget.admit({ rateLimit: null })
    await budget.settle(requestId, {})
    if (calls % 10 === 0) expect(await differences(rowhouse, 'sweeper')).toEqual([])
    await sleep(20)
  }
  expect(calls).toBeGreaterThan(20)
  expect(await outlived()).toBe(0)
  expect(await differences(rowhouse, 'sweeper')).toEqual([])
})

describe('periods', () => {
  const period = async (name: string, zone: string, at: string) => {
    const { rows } = await owner.query<{ period_start: Date; period_end: Date }>(
      `select rowhouse.quota_period_start($1, null, $2, $3) as period_start,
          rowhouse.quota_period_end($1, null, $2, $3) as period_end`,
      [name, zone, at],
    )
    return [rows[0]!.period_start.toISOString(), rows[0]!.period_end.toISOString()]
  }

  test.for<[string, string, string, string, string]>([
    ['day', 'UTC', '2026-11-21T23:59:59Z', '2026-11-21T00:00:00.000Z', '2026-11-22T00:00:00.000Z'],
    ['day', 'Asia/Tokyo', '2026-11-21T23:59:59Z', '2026-11-21T15:00:00.000Z', '2026-11-22T15:00:00.000Z'],
    // The clock goes forward: 23 hours; and back: 25 hours.
    ['day', 'Europe/Berlin', '2026-03-29T12:00:00Z', '2026-03-28T23:00:00.000Z', '2026-03-29T22:00:00.000Z'],
    ['day', 'America/New_York', '2026-11-01T12:00:00Z', '2026-11-01T04:00:00.000Z', '2026-11-02T05:00:00.000Z'],
    ['week', 'UTC', '2026-11-21T12:00:00Z', '2026-11-16T00:00:00.000Z', '2026-11-23T00:00:00.000Z'],
    ['month', 'Europe/Berlin', '2026-03-31T22:30:00Z', '2026-03-31T22:00:00.000Z', '2026-04-30T22:00:00.000Z'],
    ['month', 'Pacific/Auckland', '2026-01-31T10:00:00Z', '2025-12-31T11:00:00.000Z', '2026-01-31T11:00:00.000Z'],
    ['hour', 'Asia/Kolkata', '2026-11-21T12:45:00Z', '2026-11-21T12:30:00.000Z', '2026-11-21T13:30:00.000Z'],
    // The hour that comes twice, and a day that begins at 01:00.
    ['hour', 'Europe/Berlin', '2026-10-25T00:30:00Z', '2026-10-25T00:00:00.000Z', '2026-10-25T01:00:00.000Z'],
    ['hour', 'Europe/Berlin', '2026-10-25T01:30:00Z', '2026-10-25T01:00:00.000Z', '2026-10-25T02:00:00.000Z'],
    ['day', 'Africa/Cairo', '2026-04-24T10:00:00Z', '2026-04-23T22:00:00.000Z', '2026-04-24T21:00:00.000Z'],
    ['year', 'UTC', '2026-11-21T12:00:00Z', '2026-01-01T00:00:00.000Z', '2027-01-01T00:00:00.000Z'],
  ])('a %s in %s at %s', async ([name, zone, at, start, end]) => {
    expect(await period(name, zone, at)).toEqual([start, end])
  })

  test('a rolling quota never counts more than its limit in any window', { timeout: 120_000 }, async () => {
    let runs = 0
    const step = fc.record({ waitMs: fc.integer({ min: 0, max: 400 }), amount: fc.integer({ min: 1, max: 9 }) })
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 60, size: 'max' }), async (steps) => {
        const [name, windowMs, limit] = [`rolling_${runs++}`, 1000, 20]
        await rowhouse.quotas.define(name, { metric: name, period: 'rolling', windowMs })
        await rowhouse.quotas.set('acme', name, { limit })
        const { rows } = await owner.query<{ time: string; amount: number }>(
          `select * from public.play_rolling('acme', $1, $2, $3)`,
          [name, steps.map(({ waitMs }) => waitMs), steps.map(({ amount }) => amount)],
        )
        const admitted = rows.map(({ time, amount }) => ({ time: Number(time), amount }))
        for (const { time } of admitted) {
          const inside = admitted.filter((one) => one.time > time - windowMs && one.time <= time)
          expect(inside.reduce((sum, { amount }) => sum + amount, 0)).toBeLessThanOrEqual(limit)
        }
        // It is used up, too: a call is refused only if it does not fit into a window that is a sixtieth longer.
        let time = 0
        for (const { waitMs, amount } of steps) {
          time += waitMs
          if (admitted.some((one) => one.time === time && one.amount === amount)) continue
          const counted = admitted.filter((one) => one.time > time - windowMs * (1 + 2 / 60) && one.time <= time)
          expect(counted.reduce((sum, one) => sum + one.amount, 0) + amount).toBeGreaterThan(limit)
        }
      }),
      { numRuns: 15 },
    )
  })

  beforeAll(async () => {
    // Decides at chosen times with the functions that admit uses.
    await owner.query(`
      create function public.play_rolling(p_tenant text, p_name text, p_waits integer[], p_amounts numeric[])
        returns table (step integer, "time" bigint, amount float8) language plpgsql as $$
      declare v_quota record; v_at timestamptz := '2026-01-01';
      begin
        set local role rowhouse_owner;
        execute format('set local app.tenant_id = %L', p_tenant);
        "time" := 0;
        for i in 1 .. cardinality(p_waits) loop
          "time" := "time" + p_waits[i];
          select * into v_quota from rowhouse.effective_quotas(p_tenant, 'free', 'UTC', v_at + "time" * interval '1 ms') e where e.name = p_name;
          if v_quota.settled + p_amounts[i] <= v_quota.hard_limit then
            insert into rowhouse.quota_counters as c (tenant_id, name, period_start, settled) values (p_tenant, p_name, v_quota.period_start, p_amounts[i])
              on conflict (tenant_id, name, period_start) do update set settled = c.settled + excluded.settled;
            step := i; amount := p_amounts[i];
            return next;
          end if;
        end loop;
        reset role;
      end $$`)
  })
})
