// The leased mode: a process takes slices of an allowance out of the database and spends them itself.
import { setTimeout as sleep } from 'node:timers/promises'
import { beforeAll, expect, test, vi } from 'vitest'
import type { RateLimitWindow } from '../../src/index.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { count, hourly, provision, rowhouseFor } from './support.ts'

const database = useDatabase()
const open = rowhouseFor(database)
beforeAll(() => provision(database, 'acme'))

/** How many statements it takes. */
async function statements(run: (rowhouse: ReturnType<typeof open>) => Promise<unknown>): Promise<number> {
  let queries = 0
  await run(
    open({
      log: () => {
        queries++
      },
    }),
  )
  return queries
}

test('most calls need no statement', async () => {
  const options = { windows: hourly(10_000), lease: { size: 1000, ttlMs: 10_000 } }
  const queries = await statements(async (rowhouse) => {
    const { rateLimiter } = rowhouse.tenant('acme')
    for (let call = 0; call < 2000; call++) expect(await rateLimiter.allow('few', options)).toBe(true)
  })
  expect(queries).toBeLessThan(10)
})

test('several processes together never pass the limit', needs('parallelBackends'), async () => {
  const options = { windows: hourly(1000), lease: { size: 50, ttlMs: 10_000 } }
  const limiters = [open(), open(), open(), open()].map((rowhouse) => rowhouse.tenant('acme').rateLimiter)
  const answers = await Promise.all(
    limiters.map(async (limiter) => {
      const own: boolean[] = []
      for (let call = 0; call < 1000; call++) own.push(await limiter.allow('shared', options))
      return own
    }),
  )
  // All of the allowance is spent: nobody sits on a slice while it is asked for.
  expect(count(answers.flat())).toBe(1000)
})

test('4000 concurrent calls of one process at a limit of 1000 admit exactly 1000', async () => {
  const options = { windows: hourly(1000), lease: true }
  const { rateLimiter } = open().tenant('acme')
  const answers = await Promise.all(Array.from({ length: 4000 }, () => rateLimiter.allow('burst', options)))
  expect(count(answers)).toBe(1000)
})

test('no window of its length ever holds more than the limit, however slices are spent', {
  timeout: 60_000,
}, async () => {
  const windowMs = 300
  const options = { windows: [{ limit: 40, windowMs }], lease: { size: 10, ttlMs: 100 } }
  const limiters = [open(), open()].map((rowhouse) => rowhouse.tenant('acme').rateLimiter)
  const admitted: { readonly from: number; readonly until: number }[] = []
  const end = performance.now() + 3000
  await Promise.all(
    limiters.map(async (limiter) => {
      while (performance.now() < end) {
        const from = performance.now()
        if (await limiter.allow('window', options)) admitted.push({ from, until: performance.now() })
        await sleep(Math.random() * 8)
      }
    }),
  )
  expect(admitted.length).toBeGreaterThan(40)
  // Each was admitted at a time between the two: no window may hold more of those that lie in it for certain.
  for (const { from } of admitted) {
    const inside = admitted.filter((call) => call.from >= from && call.until < from + windowMs)
    expect(inside.length).toBeLessThanOrEqual(40)
  }
})

test('what is not spent comes back when its window has passed', async () => {
  const options = { windows: [{ limit: 20, windowMs: 1000 }], lease: { size: 2, ttlMs: 50 } }
  const { rateLimiter } = open().tenant('acme')
  expect(await rateLimiter.allow('back', options)).toBe(true)
  expect((await open().tenant('acme').rateLimiter.check('back', options)).remaining).toBeLessThanOrEqual(18)
  await sleep(1200)
  expect((await open().tenant('acme').rateLimiter.check('back', options)).remaining).toBe(20)
})

test('a wall clock that is set, in either direction, ends the slice', async () => {
  const options = { windows: hourly(1000), lease: { size: 100, ttlMs: 10_000 } }
  for (const offset of [3_600_000, -3_600_000]) {
    const subject = `clock ${offset}`
    const rowhouse = open()
    const { rateLimiter } = rowhouse.tenant('acme')
    await rateLimiter.allow(subject, options)
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + offset })
    try {
      await rateLimiter.allow(subject, options)
    } finally {
      vi.useRealTimers()
    }
    // Two slices were taken: what was left of the first one was not trusted any more.
    expect((await open().tenant('acme').rateLimiter.check(subject, options)).remaining).toBe(1000 - 10 - 100)
  }
})

test('a denial is repeated without a statement, but not for long', async () => {
  const options = { windows: hourly(1), lease: true }
  const rowhouse = open()
  const { rateLimiter } = rowhouse.tenant('acme')
  const queries = await statements(async (counted) => {
    const limiter = counted.tenant('acme').rateLimiter
    expect(await limiter.allow('denied', options)).toBe(true)
    for (let call = 0; call < 100; call++) expect(await limiter.allow('denied', options)).toBe(false)
  })
  expect(queries).toBeLessThan(10)
  expect((await rateLimiter.consume('denied', options)).retryAfterMs).toBeGreaterThan(0)
})

test.for<[string, { windows?: RateLimitWindow[]; lease: object }]>([
  ['a slice of gcra', { windows: hourly(10, 'gcra'), lease: {} }],
  ['no size', { lease: { size: 0 } }],
  ['half a size', { lease: { size: 1.5 } }],
  ['too long', { lease: { ttlMs: 60_001 } }],
])('refused: %s', async ([, options]) => {
  const call = open()
    .tenant('acme')
    .rateLimiter.allow('bad', { windows: hourly(10), ...options })
  await expect(call).rejects.toMatchObject({ httpStatus: 400 })
})
