/**
 * Queues: requests that are served a second, how long a slot that came free stays empty, and who waits how long, beside
 * what one writes by hand: a table that workers pull from with `for update skip locked`, first come, first served.
 *
 * `npm run bench -- queue [seconds]`
 */
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { createRowhouse, type Rowhouse } from '../../src/index.ts'
import { withClient } from '../setup/connection.ts'
import { percentile } from './percentile-support.ts'
import { createTable, PulledQueue } from './queue-table-support.ts'
import type { BenchContext } from './run.ts'

/** Tenants of a tier of its own each, so that nothing but their share holds them back. */
const SMALL = Array.from({ length: 9 }, (_, number) => `small-${number}`)
const CONNECTIONS = 8
const SLOTS = 8
const HAND_OVERS = 300
const SERVICE_MS = 200
/** Half of the mean to one and a half, so that slots don't come free all at once. */
const work = () => sleep(SERVICE_MS * (0.5 + Math.random()))
/** Who has no slot by then is not waited for any longer. */
const PATIENCE_MS = 25 * SERVICE_MS
const LARGE_REQUESTS = 1000
const WEIGHED_SLOTS = 5

/** Waits for a slot as a tenant, works in it, and gives it back. */
type Serve = (tenant: string, work: () => Promise<void> | void, options?: ServeOptions) => Promise<void>

interface ServeOptions {
  /** Told when the request is in the queue. */
  readonly onQueued?: () => void
  readonly signal?: AbortSignal
}

export default async function benchQueue({ urls, args }: BenchContext): Promise<void> {
  const seconds = Number(args[0] ?? 3)
  await prepare(urls)
  await tellDurability(urls.owner!)
  await tellThroughput(urls.app!, seconds)
  await tellHandOvers(urls.app!)
  await tellFairness(urls.app!)
  await tellWeights(urls.app!, seconds)
}

async function prepare({ app, operator, owner }: BenchContext['urls']): Promise<void> {
  await withClient(owner!, createTable)
  const rowhouse = createRowhouse({ connectionString: app!, admin: { connectionString: operator! } })
  for (const tenant of ['large', 'light', 'heavy', ...SMALL]) {
    await rowhouse.tenants.provision(tenant, { tier: tenant === 'heavy' ? 'heavy' : 'free' })
    await rowhouse.quotas.set(tenant, 'concurrency', { limit: null })
  }
  for (const [name, slots] of [
    ['busy', SLOTS],
    ['single', 1],
    ['fair', SLOTS],
    ['weighted', WEIGHED_SLOTS],
  ] as const) {
    await rowhouse.queues.define(name, { slots })
  }
  await rowhouse.queues.setShare('*', 'free', { weight: 1 })
  await rowhouse.queues.setShare('*', 'heavy', { weight: 4 })
  await rowhouse.close()
}

async function tellDurability(url: string): Promise<void> {
  await withClient(url, async (client) => {
    const { rows } = await client.query<{ fsync: string }>('show fsync')
    console.log(
      `fsync ${rows[0]!.fsync}${rows[0]!.fsync === 'on' ? '' : ': commits are cheaper than on a durable server'}\n`,
    )
  })
}

function open(connectionString: string): Rowhouse {
  return createRowhouse({ connectionString, poolOptions: { max: CONNECTIONS } })
}

function served(rowhouse: Rowhouse, queue: string): Serve {
  return async (tenant, work, { onQueued, signal } = {}) => {
    const ticket = await rowhouse.tenant(tenant).queue(queue).enqueue({ deadlineMs: 600_000 })
    onQueued?.()
    await using _slot = await ticket.wait({ signal })
    await work()
  }
}

/** The table as one pool of its own. */
async function withTable<T>(
  url: string,
  slots: number,
  use: (serve: Serve, table: PulledQueue) => Promise<T>,
): Promise<T> {
  const pool = new pg.Pool({ connectionString: url, max: CONNECTIONS })
  const table = await PulledQueue.open(pool, url, slots)
  try {
    return await use((tenant, work, options) => table.run(tenant, work, options?.onQueued), table)
  } finally {
    await table.close()
    await pool.end()
  }
}

async function tellThroughput(url: string, seconds: number): Promise<void> {
  console.log(
    row(`served a second, ${SLOTS} slots, work that takes no time`, ['1 caller', '8', '32', 'p50 ms', 'p99 ms']),
  )
  const rowhouse = open(url)
  await throughput('rowhouse', served(rowhouse, 'busy'), seconds)
  await rowhouse.close()
  await withTable(url, SLOTS, (serve) => throughput('table, skip locked', serve, seconds))
}

async function throughput(name: string, serve: Serve, seconds: number): Promise<void> {
  const columns: string[] = []
  let times: number[] = []
  for (const [callers, length] of [
    [8, 500],
    [1, seconds * 500],
    [8, seconds * 500],
    [32, seconds * 1000],
  ] as const) {
    times = []
    const begun = performance.now()
    await Promise.all(
      Array.from({ length: callers }, async (_, caller) => {
        while (performance.now() - begun < length) {
          const start = performance.now()
          await serve(SMALL[caller % SMALL.length]!, () => {})
          times.push(performance.now() - start)
        }
      }),
    )
    columns.push((times.length / ((performance.now() - begun) / 1000)).toFixed(0))
  }
  const latencies = [0.5, 0.99].map((fraction) => percentile(times, fraction).toFixed(1))
  console.log(row(name, [...columns.slice(1), ...latencies]))
}

/** One slot: from the moment at which its work is done to the moment at which the next one's begins, in another process. */
async function tellHandOvers(url: string): Promise<void> {
  console.log(`\n${row('from the end of work to the next, 1 slot', ['p50 ms', 'p99 ms'])}`)
  const [one, other] = [open(url), open(url)]
  const serveOne = served(one, 'single')
  const serveOther = served(other, 'single')
  await handOvers('rowhouse, another process (NOTIFY)', (turn) => (turn % 2 === 0 ? serveOne : serveOther))
  await one.close()
  await other.close()
  await withTable(url, 1, (serve) => handOvers('table, the worker goes on by itself', () => serve))
}

async function handOvers(name: string, serverOf: (turn: number) => Serve): Promise<void> {
  const delays: number[] = []
  let endedAt = Number.NaN
  let finish = () => {}
  const start = (turn: number) => {
    const begun = Promise.withResolvers<void>()
    const done = serverOf(turn)(SMALL[turn % 2]!, async () => {
      delays.push(performance.now() - endedAt)
      const ended = Promise.withResolvers<void>()
      finish = ended.resolve
      begun.resolve()
      await ended.promise
      endedAt = performance.now()
    })
    return { begun: begun.promise, done }
  }
  let current = start(0)
  for (let turn = 1; turn <= HAND_OVERS; turn++) {
    await current.begun
    const next = start(turn)
    // Until it waits, and is known to.
    await sleep(25)
    finish()
    await current.done
    current = next
  }
  await current.begun
  finish()
  await current.done
  const counted = delays.slice(10)
  console.log(
    row(
      name,
      [0.5, 0.99].map((fraction) => percentile(counted, fraction).toFixed(1)),
    ),
  )
}

async function tellFairness(url: string): Promise<void> {
  console.log(
    `\n1 tenant with ${LARGE_REQUESTS} requests, then 9 with one each; ${SLOTS} slots, work of ${SERVICE_MS} ms on average: the longest wait of the nine`,
  )
  const rowhouse = open(url)
  // The nine are in a process of their own, as far as rowhouse can tell.
  const small = open(url)
  // Connected, as in a process that has worked before.
  await Promise.all(SMALL.map((tenant) => small.tenant(tenant).queue('fair').utilization()))
  await fairness('rowhouse', served(rowhouse, 'fair'), served(small, 'fair'), 2)
  await rowhouse.close()
  await small.close()
  await withTable(url, SLOTS, async (serve, table) => {
    await fairness('table, skip locked', serve, serve)
    await table.stop()
  })
}

async function fairness(name: string, large: Serve, small: Serve, target?: number): Promise<void> {
  const giveUp = new AbortController()
  const { signal } = giveUp
  let queued = 0
  let begun = 0
  const workOfLarge = () => {
    begun++
    return work()
  }
  const many = Array.from({ length: LARGE_REQUESTS }, () =>
    large('large', workOfLarge, { onQueued: () => queued++, signal }).catch(() => {}),
  )
  while (queued < LARGE_REQUESTS) await sleep(1)
  // Until what came free while they joined is in use again.
  await sleep(5 * SERVICE_MS)
  const before = begun
  const asked = performance.now()
  const waits: number[] = []
  const few = SMALL.map((tenant) => {
    let joinedAt = Number.NaN
    return small(
      tenant,
      () => {
        waits.push(performance.now() - joinedAt)
        return work()
      },
      { onQueued: () => (joinedAt = performance.now()), signal },
    ).catch(() => {})
  })
  while (waits.length < SMALL.length && performance.now() - asked < PATIENCE_MS) await sleep(1)
  const between = begun - before
  const worst = (waits.length < SMALL.length ? PATIENCE_MS : Math.max(...waits)) / SERVICE_MS
  giveUp.abort()
  if (target !== undefined) await Promise.all([...many, ...few])
  const most = waits.length < SMALL.length ? `over ${worst.toFixed(0)}` : worst.toFixed(2)
  const judged = target === undefined ? '' : ` (target <= ${target})${worst > target ? ' MISSED' : ''}`
  console.log(
    `${row(name, [most])} service times${judged}; ${between} requests of the large tenant were begun meanwhile`,
  )
}

async function tellWeights(url: string, seconds: number): Promise<void> {
  console.log(
    '\ntwo tenants of the weights 1 and 4, always with requests that wait: throughput of the second / the first',
  )
  const rowhouse = open(url)
  await weights('rowhouse', served(rowhouse, 'weighted'), seconds, 4)
  await rowhouse.close()
  await withTable(url, WEIGHED_SLOTS, (serve) => weights('table, skip locked', serve, seconds))
}

async function weights(name: string, serve: Serve, seconds: number, target?: number): Promise<void> {
  const counts = { light: 0, heavy: 0 }
  const until = performance.now() + (seconds + 1) * 1000
  const countedFrom = performance.now() + 500
  await Promise.all(
    (['light', 'heavy'] as const).flatMap((tenant) =>
      Array.from({ length: 12 }, async () => {
        while (performance.now() < until) {
          await serve(tenant, async () => {
            await sleep(10)
            if (performance.now() > countedFrom && performance.now() < until) counts[tenant]++
          })
        }
      }),
    ),
  )
  const ratio = counts.heavy / counts.light
  const missed = target !== undefined && Math.abs(ratio / target - 1) > 0.1 ? '  MISSED (10 %)' : ''
  console.log(`${row(name, [ratio.toFixed(2)])} (${counts.heavy} / ${counts.light})${missed}`)
}

function row(name: string, columns: readonly string[]): string {
  return `${name.padEnd(56)}${columns.map((column) => column.padStart(9)).join('')}`
}
