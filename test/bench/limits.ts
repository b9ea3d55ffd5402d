import { createRowhouse } from '../../src/index.ts'
import { withClient } from '../setup/connection.ts'
import { type Decide, otherLimiters } from './limits-others-support.ts'
import { median, percentile } from './percentile-support.ts'
import type { BenchContext } from './run.ts'

const TENANTS = 100
const KEYS = 1000
/** Everything is admitted, so every call has something to write. */
const LIMIT = 1_000_000
const WINDOW_MS = 1000
const WARM_UP_MS = 300
/** With 32 callers all are measured in turn, so that a slow second of the machine is not that of one of them. */
const ROUNDS = 5

interface Load {
  readonly name: string
  /** The key of the n-th call. */
  readonly key: (call: number) => number
}

const SPREAD: Load = { name: `${KEYS} keys`, key: (call) => (call * 7919) % KEYS }
const HOT: Load = { name: 'one hot key', key: () => 0 }

interface Measured {
  readonly perSecond: number
  /** Milliseconds of each call. */
  readonly times: readonly number[]
}

/**
 * Decisions on rate limits: calls a second and latency of one Node process, over many keys and on one, next to
 * rate-limiter-flexible on the same Postgres and on Redis, and to an exact window in a sorted set of Redis.
 */
export default async function benchLimits({ urls, args }: BenchContext): Promise<void> {
  const milliseconds = Number(args[0] ?? 2) * 1000
  await withClient(urls.operator!, (client) =>
    client.query(
      `set role rowhouse_admin; select rowhouse.provision_tenant('t' || i) from generate_series(0, ${TENANTS - 1}) i`,
    ),
  )
  const rowhouse = createRowhouse({ connectionString: urls.app! })
  const windows = Object.freeze([{ limit: LIMIT, windowMs: WINDOW_MS }])
  const lease = { size: 10_000, ttlMs: 100 }
  const limiters = Array.from({ length: TENANTS }, (_, number) => rowhouse.tenant(`t${number}`).rateLimiter)
  const ours: Record<string, Decide> = { 'rowhouse, exact window': (key) => limiters[0]!.allow(`k${key}`, { windows }) }
  const onlySpread: Record<string, Decide> = {
    [`the same, ${TENANTS} tenants`]: (key) => limiters[key % TENANTS]!.allow(`k${key}`, { windows }),
  }
  const onlyHot: Record<string, Decide> = {
    'rowhouse, leased slices': (key) => limiters[0]!.allow(`k${key}`, { windows, lease }),
  }
  const others = await otherLimiters({ postgres: urls.owner!, limit: LIMIT, windowMs: WINDOW_MS })
  for (const note of others.notes) console.log(note)
  try {
    const results: Results = {}
    await measureAll(results, SPREAD, { ...ours, ...onlySpread, ...others.limiters }, milliseconds)
    await measureAll(results, HOT, { ...ours, ...onlyHot, ...others.limiters }, milliseconds)
    printTargets(results)
  } finally {
    await others.stop()
    await rowhouse.close()
  }
}

interface Result {
  /** Calls with 32 callers: the median of the rounds. */
  readonly perSecond: number
  /** Of all calls of the rounds. */
  readonly p99: number
}

type Results = Record<string, Record<string, Result>>

async function measureAll(
  results: Results,
  load: Load,
  limiters: Readonly<Record<string, Decide>>,
  milliseconds: number,
): Promise<void> {
  console.log(`\n${load.name.padEnd(36)}1 caller     8 callers    32 callers   p99 ms`)
  const few: Record<string, number[]> = {}
  const many: Record<string, Measured[]> = {}
  for (const [name, decide] of Object.entries(limiters)) {
    await run(decide, load, 32, WARM_UP_MS)
    few[name] = []
    for (const callers of [1, 8]) few[name].push((await run(decide, load, callers, milliseconds / 2)).perSecond)
  }
  for (let round = 0; round < ROUNDS; round++) {
    for (const [name, decide] of Object.entries(limiters)) {
      many[name] = [...(many[name] ?? []), await run(decide, load, 32, milliseconds / ROUNDS)]
    }
  }
  for (const [name, rounds] of Object.entries(many)) {
    const result = {
      perSecond: median(rounds.map(({ perSecond }) => perSecond)),
      p99: percentile(
        rounds.flatMap(({ times }) => times),
        0.99,
      ),
    }
    results[name] = { ...results[name], [load.name]: result }
    const columns = [...few[name]!, result.perSecond].map((n) => Math.round(n).toLocaleString('en').padStart(11))
    console.log(`${name.padEnd(33)}${columns.join('  ')}${result.p99.toFixed(1).padStart(9)}`)
  }
}

/** So many callers, each with one call at a time. */
async function run(decide: Decide, load: Load, callers: number, milliseconds: number): Promise<Measured> {
  const times: number[] = []
  const begun = performance.now()
  let calls = 0
  let last = begun
  await Promise.all(
    Array.from({ length: callers }, async () => {
      for (let yields = 0; performance.now() - begun < milliseconds; ) {
        const start = performance.now()
        if (!(await decide(load.key(calls++)))) throw new Error('a call was denied')
        last = performance.now()
        times.push(last - start)
        // Leased calls never wait; without this the process would not get around to anything else.
        if (++yields % 1000 === 0) await new Promise((resolve) => setImmediate(resolve))
      }
    }),
  )
  return { perSecond: times.length / ((last - begun) / 1000), times }
}

function printTargets(results: Results): void {
  const of = (name: string, load: Load) => results[name]?.[load.name]
  const ours = 'rowhouse, exact window'
  console.log('\ntargets, with 32 callers')
  ratio(
    'spread, of rate-limiter-flexible on Postgres',
    of(ours, SPREAD),
    of('rate-limiter-flexible, Postgres', SPREAD),
    1,
  )
  ratio('hot key, of rate-limiter-flexible on Postgres', of(ours, HOT), of('rate-limiter-flexible, Postgres', HOT), 3)
  target('hot key, p99 in ms at most', of(ours, HOT)!.p99, 15, (value, wanted) => value <= wanted)
  ratio('hot key, of the window on Redis', of(ours, HOT), of('sorted set, Redis', HOT), 0.5)
  target('leased, decisions a second', of('rowhouse, leased slices', HOT)!.perSecond, 100_000)
}

function ratio(name: string, one: Result | undefined, other: Result | undefined, wanted: number): void {
  if (one === undefined || other === undefined) console.log(`${name.padEnd(48)}not measured`)
  else target(name, one.perSecond / other.perSecond, wanted)
}

function target(name: string, value: number, wanted: number, met = (is: number, least: number) => is >= least): void {
  const number = (n: number) => (n < 1000 ? n.toFixed(2) : Math.round(n).toLocaleString('en'))
  const verdict = met(value, wanted) ? '' : '  MISSED'
  console.log(`${name.padEnd(48)}${number(value).padStart(10)}   target ${number(wanted)}${verdict}`)
}
