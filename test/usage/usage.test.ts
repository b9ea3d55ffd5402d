// Usage: recorded once, reported exactly, late or not; and the books that are compared.
import { type Kysely, sql } from 'kysely'
import { beforeAll, describe, expect, test } from 'vitest'
import type { Rowhouse, Units } from '../../src/index.ts'
import { asRowhouseOwner, differences, errorOf, setLimits, setPrices, standing } from '../budgets/support.ts'
import { inTenant, provision, rowhouseFor } from '../rate-limits/support.ts'
import { useDatabase } from '../setup/database.ts'

const database = useDatabase()
const open = rowhouseFor(database)
let rowhouse: Rowhouse
let tenants = 0
beforeAll(async () => {
  rowhouse = open()
  await setPrices(rowhouse)
})

async function newTenant(limits: Readonly<Record<string, number>> = { money_per_month: 100 }) {
  const tenant = `usage-${tenants++}`
  await provision(database, tenant)
  await setLimits(rowhouse, tenant, limits)
  return {
    tenant,
    ...{ usage: rowhouse.tenant(tenant).usage, budget: rowhouse.tenant(tenant).budget },
    as: (userId: string) => rowhouse.tenant(tenant, { userId }),
  }
}

const HOUR_MS = 3_600_000
const CALL = { model: 'large', rateLimit: null }

describe('record', () => {
  test('books once, however often it is called', async () => {
    const { tenant, usage } = await newTenant()
    const record = () => usage.record('search-1', { money: '0.005' }, { kind: 'tool_call', provider: 'someone' })
    const all = await Promise.all([record(), record(), record()])
    expect(all.map(({ cost }) => cost)).toEqual(['0.005', '0.005', '0.005'])
    expect(all.filter(({ duplicate }) => duplicate)).toHaveLength(2)
    expect(await standing(rowhouse, tenant, 'money_per_month')).toEqual([0.005, 0, 99.995])
    expect(await differences(rowhouse, tenant)).toEqual([])
  })

  test('is booked beyond the limit, and visible as that', async () => {
    const { tenant, usage, budget } = await newTenant({ money_per_month: 1 })
    await usage.record('invoice', { money: '1.5' })
    const quota = (await budget.checkQuotas()).find(({ name }) => name === 'money_per_month')
    expect(quota).toMatchObject({ used: 1, overrun: 0.5, free: 0 })
    expect(await differences(rowhouse, tenant)).toEqual([])
    expect((await errorOf(budget.admit({ ...CALL, units: { inputTokens: 1 } }))).code).toBe('budget_exceeded')
  })

  test('counts in the period and at the prices of when it occurred', async () => {
    const { tenant, usage } = await newTenant({ tokens_per_day: 1e6 })
    const yesterday = new Date(Date.now() - 86_400_000)
    await rowhouse.prices.set('older', { inputTokens: 1 }, { validFrom: new Date(Date.now() - 30 * 86_400_000) })
    await rowhouse.prices.set('older', { inputTokens: 7 }, { validFrom: new Date(Date.now() - HOUR_MS) })
    const { cost } = await usage.record('late', { inputTokens: 1e6 }, { model: 'older', occurredAt: yesterday })
    expect(cost).toBe('1')
    expect(await standing(rowhouse, tenant, 'tokens_per_day')).toEqual([0, 0, 1e6])
    expect(await differences(rowhouse, tenant)).toEqual([])
  })

  test.for<[string, Units, object, string]>([
    ['a negative amount', { money: -1 }, {}, 'invalid_amount'],
    ['an unknown quota', { elephants: 1 }, {}, 'unknown_quota'],
    ['an unknown model', {}, { model: 'unheard-of' }, 'unknown_price'],
    ['the far past', {}, { occurredAt: new Date(0) }, 'invalid_amount'],
    ['the future', {}, { occurredAt: new Date(Date.now() + HOUR_MS) }, 'invalid_amount'],
    ['a kind that is none', {}, { kind: 'Tool Call' }, 'invalid_amount'],
  ])('refuses %s, and books nothing', async ([, units, options, code]) => {
    const { usage } = await newTenant()
    expect((await errorOf(usage.record('bad', units, options))).code).toBe(code)
    expect(await usage.report()).toEqual([])
  })

  test('of a call that is at work is its settlement, not this', async () => {
    const { usage, budget } = await newTenant()
    const { requestId } = await budget.admit({ ...CALL, units: { inputTokens: 1 } })
    expect((await errorOf(usage.record(requestId, {}))).code).toBe('request_id_used')
  })
})

describe('report', () => {
  test('adds up by model, user, kind and provider, with latencies', async () => {
    const { as, usage } = await newTenant()
    for (const [user, count] of Object.entries({ ann: 3, bob: 1 })) {
      for (let call = 1; call <= count; call++) {
        const { requestId } = await as(user).budget.admit({ ...CALL, units: { inputTokens: 2000 } })
        await as(user).budget.settle(requestId, { inputTokens: 1000 }, { provider: 'p', latencyMs: call * 100 })
      }
    }
    await as('ann').usage.record('tool', { toolCalls: 2 }, { kind: 'tool_call' })
    expect(await usage.report()).toMatchObject([
      { model: 'large', userId: undefined, events: 4, inputTokens: 4000, cost: '0.008', currency: 'USD' },
      { model: '', events: 1, toolCalls: 2, cost: '0', p50Ms: undefined },
    ])
    const byUser = await usage.report({ by: ['user', 'kind'] })
    expect(byUser.map(({ userId, kind, events, cost }) => [userId, kind, events, cost])).toEqual([
      ['ann', 'model_call', 3, '0.006'],
      ['bob', 'model_call', 1, '0.002'],
      ['ann', 'tool_call', 1, '0'],
    ])
    const [ann] = byUser
    for (const [part, exact] of [
      [ann!.p50Ms!, 200],
      [ann!.p99Ms!, 300],
    ] as const) {
      expect(part).toBeGreaterThanOrEqual(exact)
      expect(part).toBeLessThanOrEqual(exact * 1.1)
    }
    const [total] = await usage.report({ by: [] })
    expect(total).toMatchObject({ events: 5, cost: '0.008', model: undefined })
  })

  test('has late events in it, in their hour', async () => {
    const { usage } = await newTenant()
    await usage.record('now', { money: 1 })
    expect(await usage.report({ by: ['hour'] })).toHaveLength(1)
    const earlier = new Date(Date.now() - 5 * HOUR_MS)
    await usage.record('late 1', { money: 2 }, { occurredAt: earlier })
    await usage.record('late 2', { money: 3 }, { occurredAt: earlier })
    const lines = await usage.report({ by: ['hour'] })
    expect(lines.map(({ events, cost }) => [events, cost])).toEqual([
      [2, '5'],
      [1, '1'],
    ])
    expect(lines[0]!.periodStart!.getTime()).toBe(Math.floor(earlier.getTime() / HOUR_MS) * HOUR_MS)
    expect(await usage.reconcile()).toEqual([])
  })

  test('is by the days of the zone of the tenant', async () => {
    const { tenant, usage } = await newTenant()
    await rowhouse.quotas.setAccount(tenant, { timeZone: 'Asia/Tokyo' })
    await usage.record('one', { money: 1 })
    const [line] = await usage.report({ by: ['day'] })
    expect(line!.periodStart!.getUTCHours()).toBe(15)
  })

  test('tells tokens in all, and units that have no column', async () => {
    const { usage } = await newTenant()
    await rowhouse.quotas.define('gpu', { metric: 'gpu_seconds', period: 'total' })
    await usage.record('one', { tokens: 500, inputTokens: 20, cachedInputTokens: 3 })
    await usage.record('two', { gpu_seconds: 1.5, tokens: 7 })
    await rowhouse.usage.rollup()
    await usage.record('three', { gpu_seconds: 2 })
    const [line] = await usage.report({ by: [] })
    expect(line).toMatchObject({ tokens: 530, inputTokens: 20, units: { gpu_seconds: 3.5 } })
    await rowhouse.usage.rollup()
    expect(await usage.report({ by: [] })).toEqual([line])
    expect(await usage.reconcile()).toEqual([])
  })

  test('reads only, and nobody waits for it', async () => {
    const { tenant, usage } = await newTenant()
    await usage.record('one', { money: 1 })
    const read = (options: { readOnly: boolean }, fn: (db: Kysely<any>) => Promise<unknown> = async () => {}) =>
      rowhouse.withTenant(
        tenant,
        async (db, { usage }) => {
          const lines = await usage.report({ by: [] })
          expect(await usage.reconcile()).toEqual([])
          await fn(db)
          return lines.map(({ cost }) => cost)
        },
        options,
      )
    expect(await read({ readOnly: true })).toEqual(['1'])
    // Another connection, while the transaction is open.
    const other = await database.connect('app')
    let calls = 0
    const admit = () =>
      inTenant(other, tenant, `select set_config('lock_timeout', '300', true), rowhouse.admit('${calls++}')`)
    expect(await read({ readOnly: false }, admit)).toEqual(['1'])
    // The control: with the lock that a rollup needs, it would wait.
    const rollup = (db: Kysely<any>) => sql`select rowhouse.rollup_usage()`.execute(db)
    const wait = read({ readOnly: false }, async (db) => {
      await rollup(db)
      await admit()
    })
    await expect(wait).rejects.toMatchObject({ code: '55P03' })
    await expect(read({ readOnly: true }, rollup)).rejects.toMatchObject({ code: '25006' })
  })

  test('refuses a breakdown that is none', async () => {
    const { usage } = await newTenant()
    expect((await errorOf(usage.report({ by: ['colour'] as never }))).code).toBe('invalid_amount')
    expect((await errorOf(usage.report({ by: ['day', 'month'] }))).code).toBe('invalid_amount')
    expect((await errorOf(usage.report({ from: new Date('never') }))).code).toBe('invalid_argument')
  })

  test('of all tenants is the report of each', async () => {
    const one = await newTenant()
    const other = await newTenant()
    await one.usage.record('x', { money: 1 })
    await other.usage.record('x', { money: '2.50' })
    const lines = await rowhouse.usage.byTenant()
    const costs = Object.fromEntries(lines.map(({ tenantId, cost }) => [tenantId, cost]))
    expect([costs[one.tenant], costs[other.tenant]]).toEqual(['1', '2.5'])
    expect(await rowhouse.usage.rollup()).toBeGreaterThan(0)
    expect(await rowhouse.usage.rollup()).toBe(0)
    await one.usage.record('y', { money: 1 })
    expect(await rowhouse.usage.rollup()).toBe(1)
  })
})

describe('export', () => {
  test('as CSV is quoted, and no cell is a formula', async () => {
    const { tenant, as, usage } = await newTenant()
    await as('=cmd()').usage.record('a "quoted", one', { money: '0.5' }, { metadata: { text: 'two\nlines' } })
    const lines: string[] = []
    for await (const line of usage.export('csv')) lines.push(line)
    expect(lines[0]).toBe(
      'tenantId,requestId,part,kind,model,provider,userId,units,cost,currency,occurredAt,recordedAt,latencyMs,metadata',
    )
    expect(lines[1]).toContain(`${tenant},"a ""quoted"", one",,call,,,'=cmd(),"{""money"":0.5}",0.5,USD,`)
    expect(lines).toHaveLength(2)
  })

  test('as CloudEvents is one object a line, and pages lose nothing', async () => {
    const { tenant, usage } = await newTenant({})
    await usage.record('event 0', { money: '0.001' })
    // The same one, many times at the same moment.
    await asRowhouseOwner(
      database,
      tenant,
      `insert into rowhouse.usage_events
        select (jsonb_populate_record(u, jsonb_build_object('request_id', 'event ' || i))).*
          from rowhouse.usage_events u, generate_series(1, 2099) i`,
    )
    const ids = new Set<string>()
    let first: Record<string, unknown> | undefined
    for await (const line of usage.export('cloudevents')) {
      const event = JSON.parse(line)
      first ??= event
      ids.add(event.id)
    }
    expect(ids.size).toBe(2100)
    expect(first).toMatchObject({
      specversion: '1.0',
      source: `/rowhouse/tenants/${tenant}`,
      type: 'rowhouse.usage.call',
      datacontenttype: 'application/json',
      data: { cost: '0.001', currency: 'USD', units: { money: 0.001 } },
    })
  })
})

test('reconcile names what does not agree', async () => {
  const { tenant, usage, budget } = await newTenant()
  const { requestId } = await budget.admit({ ...CALL, units: { inputTokens: 1000 } })
  await budget.settle(requestId, { inputTokens: 1000 })
  await usage.record('other', { money: 1 })
  await rowhouse.usage.rollup()
  expect(await usage.reconcile()).toEqual([])
  await asRowhouseOwner(
    database,
    tenant,
    `update rowhouse.usage_events set cost = cost + 1 where request_id = '${requestId}'`,
  )
  await asRowhouseOwner(
    database,
    tenant,
    `update rowhouse.quota_counters set settled = 3 where name = 'money_per_month'`,
  )
  expect((await usage.reconcile()).map(({ book }) => book).sort()).toEqual(['counters', 'events', 'rollups'])
})

test.each([
  ['input_tokens = input_tokens + 5', 'input_tokens', 1005, 1000],
  ['events = 7', 'events', 7, 1],
  ['cost = cost * 2', 'cost', 0.004, 0.002],
  [`units = '{"pages": 4}'`, 'pages', 4, 0],
  ["latencies = '{}'", 'calls in up to 128 ms', 0, 1],
])('reconcile names the figure of a rollup, and both numbers: %s', async (change, figure, counted, expected) => {
  const { tenant, usage } = await newTenant()
  await usage.record('one', { inputTokens: 1000 }, { model: 'large', latencyMs: 120 })
  await rowhouse.usage.rollup()
  expect(await usage.reconcile()).toEqual([])
  await asRowhouseOwner(database, tenant, `update rowhouse.usage_rollups set ${change}`)
  const differences = await usage.reconcile()
  expect(
    differences.map((found) => [
      found.difference.split(' of the quarter')[0],
      Number(found.counted),
      Number(found.expected),
    ]),
  ).toEqual([[figure, counted, expected]])
})
