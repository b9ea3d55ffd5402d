// admit, settle, release, extend: what is reserved, what is booked, and what is refused.
import { beforeAll, describe, expect, test } from 'vitest'
import {
  BudgetExceededError,
  QuotaExceededError,
  RateLimitedError,
  type Rowhouse,
  type Units,
} from '../../src/index.ts'
import { provision, rowhouseFor } from '../rate-limits/support.ts'
import { useDatabase } from '../setup/database.ts'
import { differences, errorOf, expire, setLimits, setPrices, standing } from './support.ts'

const database = useDatabase()
const open = rowhouseFor(database)
let rowhouse: Rowhouse
let tenants = 0
beforeAll(async () => {
  rowhouse = open()
  await rowhouse.quotas.define('documents', { metric: 'documents', period: 'total' })
  await rowhouse.quotas.define('context', { metric: 'input_tokens', period: 'request' })
  await setPrices(rowhouse)
})

/** A new tenant with these limits. */
async function tenantWith(limits: Readonly<Record<string, number>>) {
  const tenant = `tenant-${tenants++}`
  await provision(database, tenant)
  await setLimits(rowhouse, tenant, limits)
  const { budget } = rowhouse.tenant(tenant, { userId: 'ann' })
  return {
    tenant,
    budget,
    money: () => standing(rowhouse, tenant, 'money_per_month'),
    differences: () => differences(rowhouse, tenant),
  }
}

/** Costs 0.01 at most. */
const CALL = { model: 'large', units: { inputTokens: 1000, outputTokens: 800 }, rateLimit: null }

describe('a call', () => {
  test('reserves the worst case, and settles what it used', async () => {
    const { budget, money, differences } = await tenantWith({ money_per_month: 1 })
    const { requestId, cost, currency, duplicate, expiresAt } = await budget.admit(CALL)
    expect({ cost, currency, duplicate }).toEqual({ cost: '0.01', currency: 'USD', duplicate: false })
    expect(expiresAt.getTime()).toBeGreaterThan(Date.now() + 30_000)
    expect(await money()).toEqual([0, 0.01, 0.99])
    const settled = await budget.settle(
      requestId,
      { inputTokens: 500, outputTokens: 100 },
      { provider: 'x', latencyMs: 12.6 },
    )
    expect(settled).toMatchObject({ cost: '0.002', currency: 'USD', duplicate: false, crossed: [] })
    expect(await money()).toEqual([0.002, 0, 0.998])
    expect(await differences()).toEqual([])
  })

  test('is booked once, however often it is settled', async () => {
    const { budget, money } = await tenantWith({ money_per_month: 1 })
    const { requestId } = await budget.admit(CALL)
    const all = await Promise.all([1, 2, 3, 4, 5].map(() => budget.settle(requestId, { inputTokens: 1000 })))
    expect(all.map(({ cost }) => cost)).toEqual(Array(5).fill('0.002'))
    expect(all.filter(({ duplicate }) => !duplicate)).toHaveLength(1)
    // What a repetition says does not matter.
    expect(await budget.settle(requestId, { outputTokens: 800 })).toMatchObject({ cost: '0.002', duplicate: true })
    expect(await money()).toEqual([0.002, 0, 0.998])
  })

  test('that was released gives back everything, and is booked if it settles after all', async () => {
    const { budget, money, differences } = await tenantWith({ money_per_month: 1 })
    const { requestId } = await budget.admit(CALL)
    expect(await budget.release(requestId)).toBe(true)
    expect(await budget.release(requestId)).toBe(false)
    expect(await money()).toEqual([0, 0, 1])
    await budget.settle(requestId, { inputTokens: 500 })
    expect(await money()).toEqual([0.001, 0, 0.999])
    expect(await differences()).toEqual([])
  })

  test('whose lease ran out gives back everything, and is booked late', async () => {
    const { tenant, budget, money, differences } = await tenantWith({ money_per_month: 0.01, concurrency: 1 })
    const { requestId } = await budget.admit(CALL)
    expect(await errorOf(budget.admit(CALL))).toBeInstanceOf(QuotaExceededError)
    await expire(database, tenant, requestId)
    expect(await money()).toEqual([0, 0, 0.01])
    const next = await budget.admit(CALL)
    expect((await errorOf(budget.extend(requestId))).code).toBe('reservation_expired')
    // Both spent; the second one had the room, so the first one is beyond the limit, and visible as that.
    await budget.settle(next.requestId, CALL.units)
    await budget.settle(requestId, { inputTokens: 500 })
    const quotas = await budget.checkQuotas()
    expect(quotas.find(({ name }) => name === 'money_per_month')).toMatchObject({ used: 0.01, overrun: 0.001, free: 0 })
    expect(await differences()).toEqual([])
    expect((await errorOf(budget.admit(CALL))).code).toBe('budget_exceeded')
    // More money takes the overrun in.
    await rowhouse.quotas.set(tenant, 'money_per_month', { limit: 1 })
    await budget.admit(CALL)
    expect(await money()).toEqual([0.011, 0.01, 0.979])
    expect(await differences()).toEqual([])
  })

  test('that used more than it had reserved is booked in full', async () => {
    const { budget, money, differences } = await tenantWith({ money_per_month: 0.02 })
    const { requestId } = await budget.admit(CALL)
    const other = await budget.admit({ ...CALL, units: { outputTokens: 900 } })
    await budget.settle(requestId, { outputTokens: 1500 })
    // 0.009 are reserved by the other one, so 0.004 of the 0.015 have no room until it is settled.
    expect((await budget.checkQuotas()).find(({ name }) => name === 'money_per_month')).toMatchObject({
      used: 0.011,
      reserved: 0.009,
      overrun: 0.004,
      free: 0,
    })
    await budget.settle(other.requestId, { outputTokens: 100 })
    expect(await money()).toEqual([0.016, 0, 0.004])
    expect(await differences()).toEqual([])
  })

  test('can be settled in parts, in any number', async () => {
    const { budget, money, differences } = await tenantWith({ money_per_month: 1 })
    const { requestId } = await budget.admit({ ...CALL, units: { inputTokens: 4000 } })
    await budget.settle(requestId, { inputTokens: 1000 }, { part: 'one' })
    expect(await budget.settle(requestId, { inputTokens: 1000 }, { part: 'one' })).toMatchObject({ duplicate: true })
    await budget.settle(requestId, { inputTokens: 500 }, { part: 'two' })
    expect(await money()).toEqual([0.003, 0.005, 0.992])
    await budget.settle(requestId, { inputTokens: 500 })
    expect(await money()).toEqual([0.004, 0, 0.996])
    expect((await errorOf(budget.settle(requestId, {}, { part: 'three' }))).code).toBe('request_settled')
    expect(await budget.settle(requestId, {}, { part: 'two' })).toMatchObject({ cost: '0.001', duplicate: true })
    expect(await differences()).toEqual([])
  })

  test('lives on when its lease is extended, and no lease gets shorter', async () => {
    const { budget } = await tenantWith({})
    const { requestId, expiresAt } = await budget.admit({ ...CALL, leaseMs: 60_000 })
    expect(await budget.extend(requestId, 1000)).toEqual(expiresAt)
    expect((await budget.extend(requestId, 600_000)).getTime()).toBeGreaterThan(expiresAt.getTime() + 500_000)
  })

  test('repeated with its request id while at work is the same call', async () => {
    const { budget, money } = await tenantWith({ money_per_month: 1 })
    const first = await budget.admit({ ...CALL, requestId: 'same' })
    expect(await budget.admit({ ...CALL, requestId: 'same' })).toEqual({ ...first, duplicate: true })
    expect(await money()).toEqual([0, 0.01, 0.99])
    await budget.settle('same', {})
    expect((await errorOf(budget.admit({ ...CALL, requestId: 'same' }))).code).toBe('request_id_used')
  })

  test('joins the transaction of withTenant: a rollback gives everything back', async () => {
    const { tenant, money } = await tenantWith({ money_per_month: 1 })
    const work = rowhouse.withTenant(tenant, async (_, context) => {
      const { requestId } = await context.budget.admit(CALL)
      await context.budget.settle(requestId, { inputTokens: 1000 })
      throw new Error('undo')
    })
    await expect(work).rejects.toThrow('undo')
    expect(await money()).toEqual([0, 0, 1])
  })
})

describe('refused, and nothing is booked:', () => {
  test('a call over the budget, with what is left', async () => {
    const { budget, money } = await tenantWith({ money_per_month: 0.015, tokens_per_day: 1e6 })
    await budget.admit(CALL)
    const error = await errorOf<BudgetExceededError>(budget.admit(CALL))
    expect(error).toBeInstanceOf(BudgetExceededError)
    expect(error).toMatchObject({ code: 'budget_exceeded', httpStatus: 402 })
    expect(error.denial).toMatchObject({
      quota: 'money_per_month',
      metric: 'money',
      limit: 0.015,
      used: 0,
      reserved: 0.01,
      requested: 0.01,
    })
    expect(error.retryAfterMs).toBeGreaterThan(0)
    expect(error.retryAfterMs).toBeLessThanOrEqual(31 * 86_400_000)
    expect(await money()).toEqual([0, 0.01, 0.005])
  })

  test('a call over a quota of tokens books no money', async () => {
    const { budget, money } = await tenantWith({ money_per_month: 1, tokens_per_day: 2000 })
    await budget.admit(CALL)
    const error = await errorOf<QuotaExceededError>(budget.admit(CALL))
    expect(error).toMatchObject({ code: 'quota_exceeded', httpStatus: 429, retryable: true })
    expect(error.denial).toMatchObject({ quota: 'tokens_per_day', limit: 2000, reserved: 1800, requested: 1800 })
    expect(error.retryAfterMs).toBeLessThanOrEqual(86_400_000)
    expect(await money()).toEqual([0, 0.01, 0.99])
  })

  test('a call that could never fit has no time to try again', async () => {
    const { budget } = await tenantWith({ tokens_per_day: 1000 })
    const error = await errorOf<QuotaExceededError>(budget.admit(CALL))
    expect(error.denial.requested).toBe(1800)
    expect(error.retryAfterMs).toBeUndefined()
  })

  test('one call too many at the same time, until one of them ends', async () => {
    const { budget } = await tenantWith({ concurrency: 2 })
    const [first] = await Promise.all([budget.admit(CALL), budget.admit(CALL)])
    const error = await errorOf<QuotaExceededError>(budget.admit(CALL))
    expect(error.denial).toMatchObject({ quota: 'concurrency', metric: 'slots', limit: 2, reserved: 2, requested: 1 })
    expect(error.retryAfterMs).toBeLessThanOrEqual(60_000)
    await budget.settle(first.requestId, {})
    await budget.admit(CALL)
  })

  test('a prompt larger than the context', async () => {
    const { budget } = await tenantWith({ context: 900 })
    const error = await errorOf<QuotaExceededError>(budget.admit(CALL))
    expect(error.denial).toMatchObject({ quota: 'context', limit: 900, requested: 1000 })
    await budget.admit({ ...CALL, units: { inputTokens: 900 } })
  })

  test('a model that is not on the list of the tenant, or of its tier', async () => {
    const { tenant, budget } = await tenantWith({})
    await rowhouse.quotas.setTierModels('free', ['small'])
    try {
      expect(await errorOf(budget.admit(CALL))).toMatchObject({ code: 'model_not_allowed', httpStatus: 403 })
      await rowhouse.quotas.setAccount(tenant, { models: ['large'] })
      await budget.admit(CALL)
    } finally {
      await rowhouse.quotas.setTierModels('free', null)
    }
  })

  test('a call over the rate limit; and a call over a budget takes nothing of the rate limit', async () => {
    const { tenant, budget, money } = await tenantWith({ money_per_month: 0.02 })
    await rowhouse.rateLimits.set(tenant, 'calls', [{ limit: 3, windowMs: 3_600_000 }])
    const call = { ...CALL, rateLimit: 'calls' }
    await budget.admit(call)
    const { requestId } = await budget.admit(call)
    expect((await errorOf(budget.admit(call))).code).toBe('budget_exceeded')
    await budget.release(requestId)
    await budget.admit(call)
    const error = await errorOf<RateLimitedError>(budget.admit({ ...call, units: {} }))
    expect(error).toBeInstanceOf(RateLimitedError)
    expect(error.result).toMatchObject({ allowed: false, limit: 3, remaining: 0 })
    expect(error.retryAfterMs).toBeGreaterThan(0)
    expect(await money()).toEqual([0, 0.02, 0])
  })

  test('anything of a suspended tenant', async () => {
    const { tenant, budget, money } = await tenantWith({ money_per_month: 1 })
    const { requestId } = await budget.admit(CALL)
    await rowhouse.tenants.suspend(tenant)
    expect((await errorOf(budget.admit(CALL))).code).toBe('tenant_suspended')
    await rowhouse.tenants.resume(tenant)
    // What it had begun is settled when it is back.
    await budget.settle(requestId, CALL.units)
    expect(await money()).toEqual([0.01, 0, 0.99])
  })

  test.for<[string, object, string]>([
    ['a negative amount', { units: { inputTokens: -1 } }, 'invalid_amount'],
    ['NaN', { units: { inputTokens: Number.NaN } }, 'invalid_amount'],
    ['infinity', { units: { inputTokens: Number.POSITIVE_INFINITY } }, 'invalid_amount'],
    ['text as an amount', { units: { inputTokens: 'many' } }, 'invalid_amount'],
    ['units that are none', { units: [1] }, 'invalid_amount'],
    ['money of a model', { units: { money: 1 } }, 'invalid_amount'],
    ['slots', { model: undefined, units: { slots: 1 } }, 'invalid_amount'],
    ['an unknown quota', { units: { elephants: 1 } }, 'unknown_quota'],
    ['an unknown model', { model: 'unheard-of' }, 'unknown_price'],
    ['a unit without a price', { units: { cacheWriteTokens: 1, toolCalls: 1 } }, 'unknown_price'],
    ['no lease', { leaseMs: 0 }, 'invalid_argument'],
    ['half a lease', { leaseMs: 1.5 }, 'invalid_argument'],
    ['an empty request id', { requestId: '' }, 'invalid_amount'],
    ['an unknown rate limit', { rateLimit: 'nothing' }, 'unknown_rate_limit'],
  ])('%s', async ([, request, code]) => {
    const { budget, money } = await tenantWith({ money_per_month: 1 })
    expect((await errorOf(budget.admit({ ...CALL, ...request } as never))).code).toBe(code)
    expect(await money()).toEqual([0, 0, 1])
  })

  test.for<[string, Units, object, string]>([
    ['a negative amount', { inputTokens: -1 }, {}, 'invalid_amount'],
    ['an unknown quota', { elephants: 1 }, {}, 'unknown_quota'],
    ['a unit without a price', { toolCalls: 1 }, {}, 'unknown_price'],
    ['a kind that is none', {}, { kind: 'Model call' }, 'invalid_amount'],
    ['a negative latency', {}, { latencyMs: -1 }, 'invalid_amount'],
    ['too much metadata', {}, { metadata: { text: 'x'.repeat(70_000) } }, 'invalid_amount'],
  ])('settling %s', async ([, units, details, code]) => {
    const { budget, money } = await tenantWith({ money_per_month: 1 })
    const { requestId } = await budget.admit(CALL)
    expect((await errorOf(budget.settle(requestId, units, details))).code).toBe(code)
    expect(await money()).toEqual([0, 0.01, 0.99])
    await budget.settle(requestId, {})
  })

  test('settling, releasing, extending what was never admitted', async () => {
    const { budget, money } = await tenantWith({ money_per_month: 1 })
    for (const call of ['settle', 'release', 'extend'] as const) {
      expect(await errorOf(call === 'settle' ? budget.settle('nobody', {}) : budget[call]('nobody'))).toMatchObject({
        code: 'unknown_request',
        httpStatus: 404,
      })
    }
    expect(await money()).toEqual([0, 0, 1])
  })
})

describe('metrics of the application', () => {
  test('count as everything else does', async () => {
    const { tenant, budget } = await tenantWith({ documents: 3 })
    const { requestId } = await budget.admit({ units: { documents: 2 }, rateLimit: null })
    const error = await errorOf<QuotaExceededError>(budget.admit({ units: { documents: 2 }, rateLimit: null }))
    expect(error.denial).toMatchObject({ quota: 'documents', requested: 2, reserved: 2, limit: 3 })
    await budget.settle(requestId, { documents: 1 })
    expect(await standing(rowhouse, tenant, 'documents')).toEqual([1, 0, 2])
  })

  test('money without a model is given, exactly', async () => {
    const { budget, money } = await tenantWith({ money_per_month: 1 })
    const { requestId, cost } = await budget.admit({ units: { money: '0.100000000001' }, rateLimit: null })
    expect(cost).toBe('0.100000000001')
    expect(await budget.settle(requestId, { money: 0.1 + 0.2 })).toMatchObject({ cost: '0.3' })
    expect(await money()).toEqual([0.3, 0, 0.7])
  })
})

describe('soft limits', () => {
  test('are told by the settlement that crosses them, once in a period', async () => {
    const { tenant, budget } = await tenantWith({})
    await rowhouse.quotas.set(tenant, 'money_per_month', { limit: 1, softLimit: 0.015 })
    await rowhouse.quotas.define('rolling', { metric: 'output_tokens', period: 'rolling', windowMs: 3_600_000 })
    await rowhouse.quotas.set(tenant, 'rolling', { limit: null, softLimit: 1000 })
    const crossed: (readonly string[])[] = []
    for (let call = 0; call < 4; call++) {
      const { requestId } = await budget.admit(CALL)
      crossed.push((await budget.settle(requestId, CALL.units)).crossed)
    }
    expect(crossed[0]).toEqual([])
    expect(crossed.flat().filter((name) => name === 'money_per_month')).toHaveLength(1)
    expect(crossed[1]).toEqual(['money_per_month', 'rolling'])
  })
})
