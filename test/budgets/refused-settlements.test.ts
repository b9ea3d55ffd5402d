// A call that ran is booked, whatever it says of itself: what its settlement refuses makes nothing free.
import { beforeAll, describe, expect, test, vi } from 'vitest'
import { fromEnvironment, tenantHandler } from '../../src/http/index.ts'
import { type Rowhouse, RowhouseError, type RunRequest, type SettleDetails, type Units } from '../../src/index.ts'
import { provision, rowhouseFor } from '../rate-limits/support.ts'
import { useDatabase } from '../setup/database.ts'
import { differences, errorOf, expire, setLimits, setPrices, standing } from './support.ts'

const database = useDatabase()
const open = rowhouseFor(database)
let rowhouse: Rowhouse
let tenants = 0
beforeAll(async () => {
  rowhouse = open()
  await setPrices(rowhouse)
})

async function tenantWith(limits: Readonly<Record<string, number>> = { money_per_month: 0.02 }) {
  const tenant = `refused-${tenants++}`
  await provision(database, tenant)
  await setLimits(rowhouse, tenant, limits)
  return {
    tenant,
    usage: rowhouse.tenant(tenant).usage,
    budget: rowhouse.tenant(tenant).budget,
    money: () => standing(rowhouse, tenant, 'money_per_month'),
  }
}

/** Costs 0.01 at most. */
const WORST = { inputTokens: 1000, outputTokens: 800 }
const CALL = { model: 'large', units: WORST, rateLimit: null }

const REFUSED_UNITS: readonly [string, Units, string][] = [
  ['a unit without a price', { ...WORST, toolCalls: 1 }, 'unknown_price'],
  ['a metric that no quota counts', { elephants: 1 }, 'unknown_quota'],
  ['no amount', { inputTokens: Number.NaN }, 'invalid_amount'],
]

describe('a call that reports', () => {
  test.for(REFUSED_UNITS)('%s', async ([, units, code]) => {
    const { tenant, budget, money } = await tenantWith()
    const fn = vi.fn((call: { report(units: Units): void }) => call.report(units))
    for (const used of [0.01, 0.02]) {
      expect((await errorOf(budget.run(CALL, fn))).code).toBe(code)
      expect(await money()).toEqual([used, 0, 0.02 - used])
    }
    // So the budget is used up.
    expect((await errorOf(budget.run(CALL, fn))).code).toBe('budget_exceeded')
    expect(fn).toHaveBeenCalledTimes(2)
    expect(await differences(rowhouse, tenant)).toEqual([])
  })

  test.for(REFUSED_UNITS)('%s, and fails: both errors are told', async ([, units, code]) => {
    const { budget, money } = await tenantWith()
    const call = budget.run(CALL, (running) => {
      try {
        running.report(units)
      } catch {}
      throw new Error('stream broke')
    })
    const error = await call.catch((reason: unknown) => reason)
    if (units.inputTokens === undefined || Number.isFinite(units.inputTokens)) {
      expect(error).toBeInstanceOf(AggregateError)
      const [first, second] = (error as AggregateError).errors
      expect(first).toEqual(new Error('stream broke'))
      expect(second).toBeInstanceOf(RowhouseError)
      expect(second).toMatchObject({ code, message: expect.stringContaining('the worst case') })
    } else {
      // It was told at once, and swallowed.
      expect(error).toEqual(new Error('stream broke'))
    }
    expect(await money()).toEqual([0.01, 0, 0.01])
  })

  test('nothing refused, and fails, fails with its own error', async () => {
    const { budget, money } = await tenantWith()
    const call = budget.run(CALL, (running) => {
      running.report({ inputTokens: 500 })
      throw new Error('stream broke')
    })
    await expect(call).rejects.toEqual(new Error('stream broke'))
    expect(await money()).toEqual([0.001, 0, 0.019])
  })

  test('a part that is refused uses its worst case, less the parts before', async () => {
    const { tenant, budget, money } = await tenantWith()
    const call = budget.run(CALL, async (running) => {
      await running.settlePart('one', { inputTokens: 600 })
      await running.settlePart('two', { elephants: 1 })
    })
    expect((await errorOf(call)).code).toBe('unknown_quota')
    expect(await money()).toEqual([0.01, 0, 0.01])
    const { rows } = await rowhouse.withTenant(tenant, async (db) => ({
      rows: await db
        .selectFrom('rowhouse.usage_events' as never)
        .select(['part', 'units'] as never[])
        .orderBy('part' as never)
        .execute(),
    }))
    expect(rows).toEqual([
      { part: '', units: { input_tokens: 400, output_tokens: 800 } },
      { part: 'one', units: { input_tokens: 600 } },
    ])
  })

  test('more than its worst case before something refused uses that', async () => {
    const { budget, money } = await tenantWith({ money_per_month: 1 })
    const call = budget.run(CALL, (running) => {
      running.report({ inputTokens: 5000 })
      running.report({ inputTokens: -1 })
    })
    expect((await errorOf(call)).code).toBe('invalid_amount')
    expect(await money()).toEqual([0.018, 0, 0.982])
  })
})

const REFUSED_DETAILS: readonly [string, SettleDetails][] = [
  ['a kind that is none', { kind: 'Chat' }],
  ['a long provider', { provider: 'x'.repeat(201) }],
  ['a zero byte in the provider', { provider: 'a\0b' }],
  ['a zero byte in metadata', { metadata: { prompt: 'a\0b' } }],
  ['half of a character in metadata', { metadata: { prompt: 'a\ud800b' } }],
  ['too much metadata', { metadata: { prompt: 'x'.repeat(70_000) } }],
  ['metadata that is no object', { metadata: ['x'] as never }],
  ['a latency that is none', { latencyMs: -1 }],
]

describe('details that a settlement would refuse', () => {
  test.for(REFUSED_DETAILS.filter(([, { latencyMs }]) => latencyMs === undefined))(
    '%s: the call does not begin',
    async ([, details]) => {
      const { budget, money } = await tenantWith()
      const fn = vi.fn()
      expect((await errorOf(budget.run({ ...CALL, ...(details as RunRequest) }, fn))).code).toBe('invalid_amount')
      expect(fn).not.toHaveBeenCalled()
      expect(await money()).toEqual([0, 0, 0.02])
    },
  )

  test.for(REFUSED_DETAILS)('%s: a typed error of settle and record', async ([, details]) => {
    const { budget, usage, money } = await tenantWith()
    const { requestId } = await budget.admit(CALL)
    expect((await errorOf(budget.settle(requestId, WORST, details))).code).toBe('invalid_amount')
    expect((await errorOf(usage.record('late', { money: 1 }, details))).code).toBe('invalid_amount')
    expect(await money()).toEqual([0, 0.01, 0.01])
    await budget.settle(requestId, WORST)
  })

  test('that only the database finds: metadata that is longer as Postgres writes it', async () => {
    const { tenant, budget, money } = await tenantWith()
    const metadata = { numbers: Array(6000).fill(1e300) }
    const error = await errorOf(budget.run({ ...CALL, metadata }, (call) => call.report({ inputTokens: 1 })))
    expect(error).toMatchObject({ code: 'invalid_amount', message: expect.stringContaining('the worst case') })
    expect(await money()).toEqual([0.01, 0, 0.01])
    expect(await differences(rowhouse, tenant)).toEqual([])
  })
})

test.for(['a\0b', 'a\ud800b'])('ids and names that Postgres can not store (%j) are typed errors', async (bad) => {
  const { budget, usage } = await tenantWith()
  const calls: Promise<unknown>[] = [
    budget.admit({ requestId: bad }),
    budget.admit({ model: bad }),
    budget.admit({ circuit: bad }),
    budget.admit({ rateLimit: bad }),
    budget.admit({ subject: bad }),
    budget.settle(bad, {}),
    budget.settle('a', {}, { part: bad }),
    budget.release(bad),
    budget.extend(bad),
    usage.record(bad, {}),
    usage.record('a', {}, { model: bad }),
  ]
  for (const call of await Promise.allSettled(calls)) expect(call).toMatchObject({ reason: { code: 'invalid_amount' } })
})

describe('a request to an HTTP handler', () => {
  async function answer(tenant: string, units: Units, onError: (error: unknown) => void) {
    const handler = tenantHandler(
      rowhouse,
      { resolve: fromEnvironment(tenant), quota: { model: 'large', units: WORST, onError } },
      (_, { reportUsage }) => {
        reportUsage(units)
        return new Response()
      },
    )
    return (await handler(new Request('https://api.example.com/'))).status
  }

  test.for(REFUSED_UNITS)('that reports %s uses what it had reserved', async ([, units, code]) => {
    const { tenant, money } = await tenantWith()
    const errors: unknown[] = []
    const answers: number[] = []
    for (let turn = 0; turn < 3; turn++) answers.push(await answer(tenant, units, (error) => errors.push(error)))
    expect(answers).toEqual([200, 200, 402])
    expect(await money()).toEqual([0.02, 0, 0])
    expect(errors).toHaveLength(2)
    expect(errors[0]).toMatchObject({ code, message: expect.stringContaining('the worst case') })
    expect(await differences(rowhouse, tenant)).toEqual([])
  })
})

test('control: without a worst case in its place, a refused settlement books nothing, and the lease gives all back', async () => {
  const { tenant, budget, money } = await tenantWith()
  const { requestId } = await budget.admit(CALL)
  expect((await errorOf(budget.settle(requestId, { elephants: 1 }))).code).toBe('unknown_quota')
  await expire(database, tenant, requestId)
  expect(await money()).toEqual([0, 0, 0.02])
})
