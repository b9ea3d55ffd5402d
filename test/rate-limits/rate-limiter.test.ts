import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'kysely'
import { beforeAll, describe, expect, test } from 'vitest'
import { RateLimitedError, type Rowhouse, RowhouseError } from '../../src/index.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { count, hourly, provision, rowhouseFor } from './support.ts'

const database = useDatabase()
const open = rowhouseFor(database)
let rowhouse: Rowhouse
beforeAll(async () => {
  await provision(database, 'acme', 'globex')
  rowhouse = open()
})
const limiter = (tenant = 'acme') => rowhouse.tenant(tenant).rateLimiter

/** The error of a call that must fail. */
async function errorOf(call: Promise<unknown>): Promise<RowhouseError> {
  const error = await call.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(RowhouseError)
  return error as RowhouseError
}

describe('answers', () => {
  test('allow uses up, check only looks, and both see the same', async () => {
    const options = { windows: hourly(3) }
    expect(await limiter().check('a', options)).toMatchObject({
      allowed: true,
      limit: 3,
      remaining: 3,
      retryAfterMs: 0,
      resetMs: 0,
    })
    expect(await limiter().allow('a', options)).toBe(true)
    expect(await limiter().allow('a', { ...options, cost: 2 })).toBe(true)
    expect(await limiter().allow('a', options)).toBe(false)
    const look = await limiter().check('a', options)
    expect(look).toMatchObject({ allowed: false, limit: 3, remaining: 0 })
    expect(look.retryAfterMs).toBeGreaterThan(0)
    expect(look.reset.getTime()).toBeGreaterThan(Date.now() + look.resetMs - 60_000)
  })

  test('the window that decides is the one with the least left, or the one that denies longest', async () => {
    const windows = [
      { limit: 5, windowMs: 60_000 },
      { limit: 2, windowMs: 3_600_000 },
    ]
    expect(await limiter().consume('b', { windows })).toMatchObject({ limit: 2, remaining: 1 })
    await limiter().allow('b', { windows })
    const denied = await limiter().consume('b', { windows })
    expect(denied).toMatchObject({ allowed: false, limit: 2, remaining: 0 })
    expect(denied.retryAfterMs).toBeGreaterThan(60_000)
    // The call that the longer window denied has used up nothing of the shorter one.
    expect(denied.windows.map(({ remaining }) => remaining)).toEqual([3, 0])
  })

  test('what was used comes back when its window has passed', async () => {
    const options = { windows: [{ limit: 2, windowMs: 1000 }] }
    expect(await limiter().allow('c', { ...options, cost: 2 })).toBe(true)
    const { allowed, retryAfterMs } = await limiter().consume('c', options)
    expect(allowed).toBe(false)
    expect(retryAfterMs).toBeLessThanOrEqual(1000)
    await sleep(retryAfterMs + 1)
    expect(await limiter().allow('c', { ...options, cost: 2 })).toBe(true)
  })

  test('acquire throws RateLimitedError with retryAfterMs', async () => {
    const options = { windows: hourly(1) }
    expect(await limiter().acquire('d', options)).toMatchObject({ allowed: true, remaining: 0 })
    const error = await errorOf(limiter().acquire('d', options))
    expect(error).toBeInstanceOf(RateLimitedError)
    expect(error).toMatchObject({ code: 'rate_limited', httpStatus: 429, retryable: true })
    expect((error as RateLimitedError).retryAfterMs).toBe((error as RateLimitedError).result.retryAfterMs)
    expect((error as RateLimitedError).retryAfterMs).toBeGreaterThan(0)
  })

  test('other windows for the same subject are another limit', async () => {
    expect(await limiter().allow('e', { windows: hourly(1) })).toBe(true)
    expect(await limiter().allow('e', { windows: hourly(2) })).toBe(true)
    expect(await limiter().allow('e', { windows: hourly(1) })).toBe(false)
  })
})

describe('tenants', () => {
  test('the same subject of two tenants has two counters', async () => {
    expect(await limiter('acme').allow('same', { windows: hourly(1) })).toBe(true)
    expect(await limiter('globex').allow('same', { windows: hourly(1) })).toBe(true)
    expect(await limiter('acme').allow('same', { windows: hourly(1) })).toBe(false)
  })

  test('the tenant as a whole is limited by its tier', async () => {
    expect(await limiter().check()).toMatchObject({ limit: 60, remaining: 60 })
    expect(count(await Promise.all(Array.from({ length: 70 }, () => limiter().allow())))).toBe(60)
  })

  test('an operator changes limits: of all tiers, of one tier, of one tenant', async () => {
    const { rateLimits } = rowhouse
    const limitOf = async (tenant: string) => (await limiter(tenant).check('', { name: 'search' })).limit
    expect((await errorOf(limitOf('acme'))).code).toBe('unknown_rate_limit')
    await rateLimits.setDefault('*', 'search', [{ limit: 5, windowMs: 1000 }])
    expect(await limitOf('acme')).toBe(5)
    await rateLimits.setDefault('free', 'search', [{ limit: 6, windowMs: 1000 }])
    expect(await limitOf('acme')).toBe(6)
    await rateLimits.set('acme', 'search', [{ limit: 7, windowMs: 1000, algorithm: 'gcra' }])
    expect([await limitOf('acme'), await limitOf('globex')]).toEqual([7, 6])
    expect(await limiter('acme').limits()).toContainEqual({
      name: 'search',
      source: 'tenant',
      windows: [{ limit: 7, windowMs: 1000, algorithm: 'gcra', burst: 7 }],
    })
    await rateLimits.set('acme', 'search', null)
    await rateLimits.setDefault('free', 'search', null)
    expect(await limitOf('acme')).toBe(5)
    await rateLimits.set('acme', 'requests', 'enterprise')
    expect((await limiter('acme').limits()).find(({ name }) => name === 'requests')).toMatchObject({
      source: 'tenant',
      windows: [{ limit: 10_000 }, { limit: 5_000_000 }],
    })
    expect((await errorOf(rateLimits.set('nobody', 'search', [{ limit: 1, windowMs: 1 }]))).code).toBe(
      'tenant_not_found',
    )
    expect((await errorOf(rateLimits.set('acme', 'search', 'no-such-tier'))).code).toBe('unknown_rate_limit')
    await rateLimits.set('acme', 'requests', null)
  })

  test('a raised limit holds at once, and what was counted stays counted', async () => {
    await rowhouse.rateLimits.set('globex', 'jobs', [{ limit: 2, windowMs: 3_600_000 }])
    expect(count(await Promise.all([1, 2, 3].map(() => limiter('globex').allow('x', { name: 'jobs' }))))).toBe(2)
    await rowhouse.rateLimits.set('globex', 'jobs', [{ limit: 3, windowMs: 3_600_000 }])
    expect(await limiter('globex').allow('x', { name: 'jobs' })).toBe(true)
    expect(await limiter('globex').allow('x', { name: 'jobs' })).toBe(false)
  })

  test('unknown and suspended tenants are refused', async () => {
    expect((await errorOf(limiter('nobody').allow('x', { windows: hourly(1) }))).code).toBe('tenant_not_found')
    await provision(database, 'late')
    const operator = await database.connect('operator')
    await operator.query("set role rowhouse_admin; select rowhouse.suspend_tenant('late')")
    expect((await errorOf(limiter('late').allow('x', { windows: hourly(1) }))).code).toBe('tenant_suspended')
  })
})

describe('inside withTenant', () => {
  test('calls join the transaction: a rollback gives back what they used', async () => {
    const options = { windows: hourly(2) }
    await expect(
      rowhouse.withTenant('acme', async (_, tenant) => {
        expect(await tenant.rateLimiter.allow('tx', options)).toBe(true)
        // The other handle of the same tenant joins too.
        expect(await limiter().allow('tx', options)).toBe(true)
        expect(await tenant.rateLimiter.check('tx', options)).toMatchObject({ allowed: false, remaining: 0 })
        throw new Error('undo')
      }),
    ).rejects.toThrow('undo')
    expect(await limiter().check('tx', options)).toMatchObject({ remaining: 2 })
    await rowhouse.withTenant('acme', (_, tenant) => tenant.rateLimiter.acquire('tx', options))
    expect(await limiter().check('tx', options)).toMatchObject({ remaining: 1 })
  })

  test('another tenant is refused, and so is waiting', async () => {
    await rowhouse.withTenant('acme', async (_, tenant) => {
      expect((await errorOf(limiter('globex').allow('x', { windows: hourly(1) }))).code).toBe('tenant_mismatch')
      expect((await errorOf(tenant.rateLimiter.acquire('x', { overflowMode: 'queue' }))).code).toBe('invalid_argument')
    })
  })
})

describe('waiting', () => {
  test(
    'overflowMode queue admits in the order of arrival, never more than the limit',
    needs('parallelBackends'),
    async () => {
      const options = { windows: [{ limit: 2, windowMs: 200 }], overflowMode: 'queue' } as const
      const order: number[] = []
      const times = await Promise.all(
        [0, 1, 2, 3, 4, 5].map(async (number) => {
          await limiter().acquire('queue', options)
          order.push(number)
          return performance.now()
        }),
      )
      expect(order).toEqual([0, 1, 2, 3, 4, 5])
      expect(times[5]! - times[0]!).toBeGreaterThan(350)
    },
  )

  test('a call that cannot be admitted in time is refused at once; a signal ends the waiting', async () => {
    const options = { windows: hourly(1), overflowMode: 'queue' } as const
    await limiter().acquire('full', options)
    const begun = performance.now()
    expect(await errorOf(limiter().acquire('full', { ...options, timeoutMs: 5000 }))).toBeInstanceOf(RateLimitedError)
    expect(performance.now() - begun).toBeLessThan(4500)
    const waiting = { windows: [{ limit: 1, windowMs: 10_000 }], overflowMode: 'queue' } as const
    await limiter().acquire('signal', waiting)
    await expect(limiter().acquire('signal', { ...waiting, signal: AbortSignal.timeout(50) })).rejects.toThrow(
      /abort|timeout/i,
    )
    // Its turn has ended with it.
    expect(await errorOf(limiter().acquire('signal', { ...waiting, timeoutMs: 50 }))).toBeInstanceOf(RateLimitedError)
  })
})

describe('bad input is refused and books nothing', () => {
  test.for<[string, object, string]>([
    ['negative cost', { cost: -1 }, 'invalid_cost'],
    ['no cost', { cost: 0 }, 'invalid_cost'],
    ['half a call', { cost: 0.5 }, 'invalid_cost'],
    ['NaN', { cost: Number.NaN }, 'invalid_cost'],
    ['infinite cost', { cost: Number.POSITIVE_INFINITY }, 'invalid_cost'],
    ['a cost above the limit', { cost: 11 }, 'invalid_cost'],
    ['text as cost', { cost: '1' }, 'invalid_cost'],
    ['no windows', { windows: [] }, 'invalid_rate_limit'],
    ['a limit of 0', { windows: [{ limit: 0, windowMs: 1000 }] }, 'invalid_rate_limit'],
    ['a window without length', { windows: [{ limit: 1 }] }, 'invalid_rate_limit'],
    ['an unknown algorithm', { windows: [{ limit: 1, windowMs: 1, algorithm: 'fixed' }] }, 'invalid_rate_limit'],
    ['a typo in a window', { windows: [{ limit: 1, window: 1, windowMs: 1 }] }, 'invalid_rate_limit'],
    ['two equal windows', { windows: [...hourly(1), ...hourly(2)] }, 'invalid_rate_limit'],
    ['a burst of a sliding window', { windows: [{ limit: 5, windowMs: 1, burst: 2 }] }, 'invalid_rate_limit'],
    ['an unknown limit', { windows: undefined, name: 'nothing' }, 'unknown_rate_limit'],
  ])('%s', async ([, options, code]) => {
    const given = { windows: hourly(10), ...options } as { windows?: never; name?: string }
    const error = await errorOf(limiter().allow('bad', given))
    expect(error.code).toBe(code)
    expect(await limiter().check('bad', { windows: hourly(10) })).toMatchObject({ remaining: 10 })
  })

  test('a bad call among good ones spoils none of them', async () => {
    const windows = hourly(10)
    const calls = [1, 11, 2].map((cost) => limiter().allow('among', { cost, windows }))
    const results = await Promise.allSettled(calls)
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
    expect(await limiter().check('among', { windows })).toMatchObject({ remaining: 7 })
  })

  test('the function itself refuses what the client would not send', async () => {
    const take = (limits: string, lengths: string, bursts: string, cost: string) =>
      errorOf(
        rowhouse.withTenant('acme', (db) =>
          sql`select rowhouse.take_rate_limit(null, ${limits}, ${lengths}, ${bursts}, '{x}', ${cost}, '{1}')`.execute(
            db,
          ),
        ),
      )
    expect((await take('{1}', '{0}', '{1}', '{1}')).code).toBe('invalid_rate_limit')
    expect((await take('{1,1}', '{2,1}', '{1,1}', '{1}')).code).toBe('invalid_rate_limit')
    expect((await take('{1}', '{1}', '{2}', '{1}')).code).toBe('invalid_rate_limit')
    expect((await take('{1}', '{1}', '{1}', '{-1}')).code).toBe('invalid_cost')
    const json = (windows: string, cost: number) =>
      errorOf(
        rowhouse.withTenant('acme', (db) =>
          sql`select rowhouse.rate_limit('x', ${cost}, p_windows => ${windows})`.execute(db),
        ),
      )
    expect((await json('[{"limit": 1.5, "windowMs": 1}]', 1)).code).toBe('invalid_rate_limit')
    expect((await json('{}', 1)).code).toBe('invalid_rate_limit')
    expect((await json('[{"limit": 1, "windowMs": 1}]', 2)).code).toBe('invalid_cost')
  })
})
