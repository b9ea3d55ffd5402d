// The decision itself, at times that the test chooses, against models that keep every call ever admitted.
import * as fc from 'fast-check'
import type pg from 'pg'
import { beforeAll, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'

const database = useDatabase()
let owner: pg.Client
beforeAll(async () => {
  owner = await database.connect('owner')
})

interface Window {
  limit: number
  /** Milliseconds; negative: gcra. */
  length: number
  burst: number
}

interface Step {
  /** Microseconds after the step before. */
  wait: number
  cost: number
  calls: number
}

interface Decision extends Step {
  time: number
  admitted: number | null
  windows: [limit: number, length: number, remaining: number, resetMs: number, retryMs: number][]
  entries: number
}

const START = 1_800_000_000_000_000

/** Runs the steps one after another, each on the state that the one before left, in one statement. */
async function decideAll(windows: readonly Window[], steps: readonly Step[], holdMs = 0): Promise<Decision[]> {
  const { rows } = await owner.query<Omit<Decision, keyof Step>>(
    `with recursive decided as (
       select 0 as step, $1::bigint as time, '{0}'::bigint[] as state, 0 as admitted, '[]'::json as windows
       union all
       select d.step + 1, d.time + s.wait, n.state, n.admitted, n.windows
         from decided d
         join unnest($2::bigint[], $3::bigint[], $4::integer[]) with ordinality s (wait, cost, calls, number)
           on s.number = d.step + 1
         cross join lateral rowhouse.decide_rate_limit(d.state, d.time + s.wait, $5, $6, $7, s.cost, s.calls, $8) n)
     select time::float8, admitted, windows, array_length(state, 1)::integer as entries from decided where step > 0 order by step`,
    [
      START,
      steps.map(({ wait }) => wait),
      steps.map(({ cost }) => cost),
      steps.map(({ calls }) => calls),
      windows.map(({ limit }) => limit),
      windows.map(({ length }) => length),
      windows.map(({ burst }) => burst),
      holdMs * 1000,
    ],
  )
  return rows.map((row, index) => ({ ...steps[index]!, ...row }))
}

/** The most that was admitted in any window of this length (half open: what is exactly a window old has left). */
function mostInAnyWindow(decisions: readonly Decision[], lengthMs: number): number {
  let most = 0
  let sum = 0
  let oldest = 0
  for (const { time, admitted, cost } of decisions) {
    sum += (admitted ?? 0) * cost
    while (decisions[oldest]!.time <= time - lengthMs * 1000) {
      sum -= (decisions[oldest]!.admitted ?? 0) * decisions[oldest]!.cost
      oldest++
    }
    most = Math.max(most, sum)
  }
  return most
}

const slidingWindow = fc
  .record({ limit: fc.integer({ min: 1, max: 300 }), length: fc.integer({ min: 1, max: 5000 }) })
  .map(({ limit, length }) => ({ limit, length, burst: limit }))
const gcraWindow = fc
  .record({
    limit: fc.integer({ min: 1, max: 300 }),
    length: fc.integer({ min: 1, max: 5000 }),
    part: fc.double({ min: 0, max: 1, noNaN: true }),
  })
  .map(({ limit, length, part }) => ({ limit, length: -length, burst: Math.max(1, Math.round(limit * part)) }))
const step = (most: number) =>
  fc.record({
    wait: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 20_000 }), fc.integer({ min: 0, max: 2_000_000 })),
    cost: fc.integer({ min: 1, max: most }),
    calls: fc.oneof(fc.constant(1), fc.integer({ min: 0, max: 40 })),
  })
const stepsUpTo = (cost: number) => fc.array(step(cost), { minLength: 1, maxLength: 300, size: 'max' })

function ascending(windows: readonly Window[]): Window[] {
  return [...new Map(windows.map((window) => [window.length, window])).values()].sort((a, b) => a.length - b.length)
}

test('a sliding window never admits more than its limit in any window of its length', { timeout: 60_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(slidingWindow, { minLength: 1, maxLength: 4 }), stepsUpTo(8), async (given, steps) => {
      const windows = ascending(given)
      const decisions = await decideAll(windows, steps)
      for (const { limit, length } of windows) expect(mostInAnyWindow(decisions, length)).toBeLessThanOrEqual(limit)
    }),
    { numRuns: 60 },
  )
})

test('the check of any window is one: a burst and the pace of gcra after it do not pass it', async () => {
  const steps = Array.from({ length: 15 }, (_, index) => ({ wait: index === 0 ? 0 : 100_000, cost: 1, calls: 10 }))
  expect(mostInAnyWindow(await decideAll([{ limit: 10, length: -1000, burst: 10 }], steps), 1000)).toBeGreaterThan(10)
  expect(mostInAnyWindow(await decideAll([{ limit: 10, length: 1000, burst: 10 }], steps), 1000)).toBe(10)
})

test('a sliding window with a short log admits exactly what a log of all calls would', {
  timeout: 60_000,
}, async () => {
  await fc.assert(
    fc.asyncProperty(
      slidingWindow,
      fc.array(step(5), { minLength: 1, maxLength: 96, size: 'max' }),
      async (window, steps) => {
        const decisions = await decideAll([window], steps)
        const log: { time: number; cost: number }[] = []
        for (const { time, cost, calls, admitted, windows } of decisions) {
          const used = () =>
            log.filter((entry) => entry.time > time - window.length * 1000).reduce((sum, entry) => sum + entry.cost, 0)
          if (cost > window.limit) {
            expect(admitted).toBeNull()
            continue
          }
          const expected = Math.min(calls, Math.floor((window.limit - used()) / cost))
          expect(admitted).toBe(expected)
          if (expected > 0) log.push({ time, cost: expected * cost })
          expect(windows[0]![2]).toBe(window.limit - used())
        }
      },
    ),
    { numRuns: 60 },
  )
})

test('a long log is thinned: an entry leaves late by at most a sixtieth of the window', async () => {
  const fill = Array.from({ length: 1000 }, () => ({ wait: 997, cost: 1, calls: 1 }))
  const decisions = await decideAll([{ limit: 1000, length: 1000, burst: 1000 }], fill)
  expect(decisions.every(({ admitted }) => admitted === 1)).toBe(true)
  expect(Math.max(...decisions.map(({ entries }) => entries))).toBeLessThanOrEqual(4 + 2 * 97)
  // From here on as many calls leave the window as time passes; with a sixtieth more nobody is denied.
  const late = await decideAll(
    [{ limit: 1000, length: 1000, burst: 1000 }],
    [...fill, { wait: 1_000_000 + Math.ceil(1_000_000 / 60), cost: 1000, calls: 1 }],
  )
  expect(late.at(-1)!.admitted).toBe(1)
})

test('gcra admits what a bucket of tokens with the same pace would', { timeout: 60_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(gcraWindow, stepsUpTo(4), async (window, steps) => {
      const decisions = await decideAll([window], steps)
      // In nanoseconds of pace, as whole numbers.
      const pace = Math.ceil((-window.length * 1e6) / window.limit)
      const full = window.burst * pace
      let level = full
      let last = START
      for (const { time, cost, calls, admitted, windows } of decisions) {
        level = Math.min(full, level + (time - last) * 1000)
        last = time
        if (cost > window.burst) {
          expect(admitted).toBeNull()
          continue
        }
        const expected = Math.min(calls, Math.floor(level / (cost * pace)))
        expect(admitted).toBe(expected)
        level -= expected * cost * pace
        expect(windows[0]![2]).toBe(Math.floor(level / pace))
      }
    }),
    { numRuns: 60 },
  )
})

test('retryAfterMs is exact: the call is admitted then, and not a millisecond earlier', {
  timeout: 60_000,
}, async () => {
  let denials = 0
  const anyWindow = fc.oneof(slidingWindow, gcraWindow)
  await fc.assert(
    fc.asyncProperty(fc.array(anyWindow, { minLength: 1, maxLength: 3 }), stepsUpTo(3), async (given, steps) => {
      const windows = ascending(given)
      const decisions = await decideAll(windows, steps)
      const index = decisions.findIndex(({ admitted, calls }) => admitted !== null && admitted < calls)
      if (index < 0) return
      denials++
      const before = steps.slice(0, index + 1)
      const { cost, windows: states } = decisions[index]!
      const retryMs = Math.max(...states.map((state) => state[4]))
      const again = async (ms: number) =>
        (await decideAll(windows, [...before, { wait: ms * 1000, cost, calls: 1 }])).at(-1)!.admitted
      expect(retryMs).toBeGreaterThan(0)
      expect(await again(retryMs)).toBe(1)
      expect(await again(retryMs - 1)).toBe(0)
    }),
    { numRuns: 60 },
  )
  expect(denials).toBeGreaterThan(10)
})

test('a denial by one window uses up nothing of the others', async () => {
  const windows = [
    { limit: 2, length: 1000, burst: 2 },
    { limit: 100, length: 60_000, burst: 100 },
  ]
  const decisions = await decideAll(windows, [{ wait: 0, cost: 1, calls: 50 }])
  expect(decisions[0]!.admitted).toBe(2)
  expect(decisions[0]!.windows.map((window) => window[2])).toEqual([0, 98])
})

test('time never runs backwards: a clock that is set back gives nothing away', async () => {
  const windows = [{ limit: 5, length: 1000, burst: 5 }]
  const decisions = await decideAll(windows, [
    { wait: 3_600_000_000, cost: 5, calls: 1 },
    { wait: -3_599_000_000, cost: 1, calls: 1 },
    { wait: 3_599_999_999, cost: 1, calls: 1 },
    { wait: 1, cost: 1, calls: 1 },
  ])
  expect(decisions.map(({ admitted }) => admitted)).toEqual([1, 0, 0, 1])
})

test('what is held counts until a window after the end of the hold', async () => {
  const windows = [{ limit: 10, length: 1000, burst: 10 }]
  const decide = async (wait: number) =>
    (
      await decideAll(
        windows,
        [
          { wait: 0, cost: 1, calls: 10 },
          { wait, cost: 1, calls: 1 },
        ],
        500,
      )
    ).at(-1)!.admitted
  expect(await decide(1_499_999)).toBe(0)
  expect(await decide(1_500_000)).toBe(1)
})
