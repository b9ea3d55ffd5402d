import { availableParallelism } from 'node:os'
import { sql } from 'kysely'
import pg from 'pg'
import { type ContextOptions, createRowhouse, type Rowhouse } from '../../src/index.ts'
import { withClient } from '../setup/connection.ts'
import { createTablesByHand, writePairByHand } from './admit-by-hand-support.ts'
import { median, percentile } from './percentile-support.ts'
import type { BenchContext } from './run.ts'

const TENANTS = 200
const WARM_UP_MS = 1000
/** With 32 callers, spread over the tenants, on two cores. */
const TARGET = 1500
/**
 * The server runs on the same machine. Two connections for each core keep it at work while one of them waits for its
 * commit; more only take the caches from each other: with 16 on two cores a pair takes a quarter more of the processor.
 */
const CONNECTIONS = 2 * availableParallelism() + 1
/** Calls that one statement does at once, where it is told what bounds the hot tenant. */
const TOGETHER = 16

const CALL = { model: 'large', units: { inputTokens: 1200, outputTokens: 800 }, rateLimit: null }
const USED = { inputTokens: 1200, outputTokens: 300 }

/**
 * Pairs of admit and settle a second, durable: four quotas, a price, a usage event. Spread over tenants, whose calls
 * share transactions, and the same with those of each tenant alone; on one tenant: its account is locked from the first
 * statement to the end of each transaction, so its calls come one after another, and those that wait share the next one.
 * Beside it the same rows, written by hand, a transaction for each call. Arguments: seconds of each measurement,
 * connections of the pool.
 */
export default async function benchAdmit({ urls, args }: BenchContext): Promise<void> {
  const milliseconds = Number(args[0] ?? 4) * 1000
  const connections = Number(args[1] ?? CONNECTIONS)
  await prepare(urls.operator!, urls.app!)
  await tellDurability(urls.owner!)
  const rowhouse = createRowhouse({ connectionString: urls.app!, poolOptions: { max: connections } })
  try {
    console.log(`\n${connections} connections`)
    console.log(`pairs a second${' '.repeat(16)}1 caller   8 callers  32 callers   p50 ms   p99 ms`)
    const spread = await measure(rowhouse, 'spread', (call) => call % TENANTS, CALL, milliseconds)
    const alone = await measure(
      rowhouse,
      'spread, each tenant alone',
      (call) => call % TENANTS,
      CALL,
      milliseconds,
      // What a transaction is to be like is said by a tenant of its own.
      () => ({ isolationLevel: 'read committed' }),
    )
    const byHand = await measureByHand(urls.owner!, urls.app!, connections, milliseconds)
    const hot = await measure(rowhouse, 'one hot tenant', () => 0, CALL, milliseconds)
    await measure(
      rowhouse,
      'the same, with users',
      () => 0,
      CALL,
      milliseconds,
      (call) => ({
        userId: `u-${call % 10}`,
        requestId: `http-${call}`,
      }),
    )
    await measure(
      rowhouse,
      'spread, with a rate limit',
      (call) => call % TENANTS,
      { ...CALL, rateLimit: 'bench' },
      milliseconds,
    )
    const verdict = spread >= TARGET ? '' : '  MISSED'
    console.log(
      `\nspread, 32 callers: ${spread.toFixed(0)} pairs a second, target ${TARGET}${verdict}; ` +
        `${(spread / alone).toFixed(2)} of each tenant alone, ` +
        `${(spread / byHand).toFixed(2)} of the same rows written by hand, unchecked and unprotected`,
    )
    await tellBound(urls.app!, urls.owner!, hot)
    await checkBooks(rowhouse)
  } finally {
    await rowhouse.close()
  }
}

async function prepare(operator: string, app: string): Promise<void> {
  const rowhouse = createRowhouse({ connectionString: app, admin: { connectionString: operator } })
  await rowhouse.prices.set('large', { inputTokens: 3, outputTokens: 15 })
  await rowhouse.rateLimits.setDefault('enterprise', 'bench', [{ limit: 1_000_000, windowMs: 1000 }])
  await rowhouse.quotas.setDefault('enterprise', 'money_per_month', { limit: 1e9 })
  for (let number = 0; number < TENANTS; number++) {
    await rowhouse.tenants.provision(`t${number}`, { tier: 'enterprise' })
  }
  await rowhouse.close()
}

async function tellDurability(url: string): Promise<void> {
  await withClient(url, async (client) => {
    const { rows } = await client.query<{ name: string; setting: string }>(
      `select name, setting from pg_settings where name in ('fsync', 'synchronous_commit', 'full_page_writes')`,
    )
    const settings = rows.map(({ name, setting }) => `${name} ${setting}`).join(', ')
    const isDurable = rows.every(({ setting }) => setting === 'on')
    console.log(
      `${settings}${isDurable ? '' : ': NOT DURABLE, so commits are too cheap; set TEST_DATABASE_URL to a server that is'}`,
    )
  })
}

/** Pairs a second with one, 8 and 32 callers, told in one line; returns the last. `pair` makes the n-th. */
async function measurePairs(
  name: string,
  milliseconds: number,
  pair: (call: number) => Promise<unknown>,
): Promise<number> {
  const columns: string[] = []
  let calls = 0
  let times: number[] = []
  let perSecond = 0
  for (const [callers, length] of [
    [8, WARM_UP_MS],
    [1, milliseconds / 2],
    [8, milliseconds / 2],
    [32, milliseconds],
  ] as const) {
    times = []
    const begun = performance.now()
    await Promise.all(
      Array.from({ length: callers }, async () => {
        while (performance.now() - begun < length) {
          const start = performance.now()
          await pair(calls++)
          times.push(performance.now() - start)
        }
      }),
    )
    perSecond = times.length / ((performance.now() - begun) / 1000)
    columns.push(perSecond.toFixed(0).padStart(10))
  }
  const [p50, p99] = [0.5, 0.99].map((fraction) => percentile(times, fraction).toFixed(1).padStart(8))
  console.log(`${name.padEnd(28)}${columns.slice(1).join('  ')} ${p50} ${p99}`)
  return perSecond
}

async function measure(
  rowhouse: Rowhouse,
  name: string,
  tenantOf: (call: number) => number,
  request: typeof CALL | (Omit<typeof CALL, 'rateLimit'> & { rateLimit: string }),
  milliseconds: number,
  /** In whose name the n-th call is made. */
  callerOf?: (call: number) => ContextOptions,
): Promise<number> {
  const budgets = Array.from({ length: TENANTS }, (_, number) => rowhouse.tenant(`t${number}`).budget)
  return measurePairs(name, milliseconds, async (call) => {
    const tenant = tenantOf(call)
    const budget = callerOf === undefined ? budgets[tenant]! : rowhouse.tenant(`t${tenant}`, callerOf(call)).budget
    const { requestId } = await budget.admit(request)
    await budget.settle(requestId, USED)
  })
}

async function measureByHand(owner: string, app: string, connections: number, milliseconds: number): Promise<number> {
  await createTablesByHand(owner, TENANTS)
  const pool = new pg.Pool({ connectionString: app, max: connections })
  try {
    return await measurePairs('spread, rows by hand', milliseconds, (call) =>
      writePairByHand(pool, `t${call % TENANTS}`, `by-hand-${call}`),
    )
  } finally {
    await pool.end()
  }
}

/** What holds the hot tenant back: its account is locked through each transaction. */
async function tellBound(app: string, owner: string, pairs: number): Promise<void> {
  const client = new pg.Client({ connectionString: app })
  await client.connect()
  /** Milliseconds of the calls of a transaction, with its commit. */
  const time = async (calls: readonly string[]) => {
    await client.query("begin; set local role rowhouse_app; set local app.tenant_id = 't0'")
    const begun = performance.now()
    await client.query(`select ${calls.join(', ')}; commit`)
    return performance.now() - begun
  }
  const timePair = async (together: number) => {
    const times: number[] = []
    for (let number = 0; number < 400 / together; number++) {
      const ids = Array.from({ length: together }, (_, index) => `bound-${together}-${number}-${index}`)
      const units = '{"input_tokens": 1200, "output_tokens": 800}'
      const admit = await time(ids.map((id) => `rowhouse.admit('${id}', '${units}', 'large', 60000, null)`))
      const settle = await time(ids.map((id) => `rowhouse.settle('${id}', '${units}')`))
      times.push((admit + settle) / together)
    }
    return median(times)
  }
  const alone = await timePair(1)
  const shared = await timePair(TOGETHER)
  await client.end()
  const { rows } = await withClient(owner, (session) =>
    session.query<{ size: string }>(`select pg_size_pretty(pg_total_relation_size('rowhouse.usage_events')) as size`),
  )
  const most = (milliseconds: number) =>
    `${milliseconds.toFixed(2)} ms, so ${(1000 / milliseconds).toFixed(0)} a second`
  console.log(
    `one hot tenant: ${pairs.toFixed(0)} pairs a second. Its account is locked through each transaction. A pair takes ` +
      `${most(alone)}, in two transactions of its own, and ${most(shared)}, when ${TOGETHER} share them. ` +
      `usage_events: ${rows[0]!.size}`,
  )
}

async function checkBooks(rowhouse: Rowhouse): Promise<void> {
  const { rows } = await rowhouse.withTenant('t0', (db) => sql`select * from rowhouse.budget_differences()`.execute(db))
  console.log(rows.length === 0 ? 'the books of the hot tenant balance' : rows)
}
