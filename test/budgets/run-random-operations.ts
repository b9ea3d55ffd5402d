import { type ChildProcess, fork } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { createRowhouse, type Rowhouse } from '../../src/index.ts'
import { LEASE_MS, type Ledger, newLedger, randomSource, TENANTS, toMillionths, work } from './random-operations.ts'

/** Connections of this process; two processes that are killed time and again have two more each. */
const CONNECTIONS = 16
const PROCESSES = 2
const KILL_AFTER_MS = 700

export interface RandomOperationsOptions {
  readonly urls: { readonly app: string; readonly operator: string; readonly superuser: string }
  readonly operations: number
  readonly seed: number
  readonly log?: (line: string) => void
}

export interface RandomOperationsReport {
  readonly operations: number
  readonly counts: Readonly<Record<string, number>>
  readonly killedProcesses: number
  readonly terminatedBackends: number
  readonly checkpoints: number
  readonly changedLimits: number
  /** What must not have happened; empty when all is well. */
  readonly problems: readonly string[]
}

/**
 * Random operations over 20 connections and four tenants, while processes are killed and backends terminated. At
 * checkpoints, and at the end, the books of each tenant must balance.
 */
export async function runRandomOperations({
  urls,
  operations,
  seed,
  log = () => {},
}: RandomOperationsOptions): Promise<RandomOperationsReport> {
  await prepare(urls)
  const problems: string[] = []
  const ledgers = Array.from({ length: CONNECTIONS }, newLedger)
  const done = () => ledgers.reduce((sum, { operations: own }) => sum + own, 0)
  let ended = false
  const until = () => ended || problems.length > 20 || done() + processes.operations >= operations
  const superuser = new pg.Client({ connectionString: urls.superuser })
  await superuser.connect()

  const processes = new KilledProcesses(urls.app, seed, (problem) => problems.push(problem))
  const workers = ledgers.map((ledger, number) =>
    work({
      url: urls.app,
      name: `main-${seed}-${number}`,
      seed: seed + number,
      ledger,
      until,
      onError: (error) => problems.push(`${(error as { code?: string }).code}: ${error.message}`),
    }),
  )
  const operator = createRowhouse({ connectionString: urls.app, admin: { connectionString: urls.operator } })
  let changedLimits = 0
  const trouble = (async () => {
    const random = randomSource(seed + 1_000_000)
    let terminatedBackends = 0
    let checkpoints = 0
    while (!until()) {
      await sleep(KILL_AFTER_MS)
      processes.killOne(random(PROCESSES))
      const { rows } = await superuser.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
          where datname = current_database() and application_name = 'random operations' order by random() limit 1`,
      )
      terminatedBackends += rows.length
      await changeLimits(operator, random)
      changedLimits++
      problems.push(...(await checkBooks(superuser)))
      checkpoints++
      if (checkpoints % 20 === 0) log(`${done() + processes.operations} operations, ${checkpoints} checkpoints`)
    }
    return { terminatedBackends, checkpoints }
  })()
  await Promise.all(workers)
  const { terminatedBackends, checkpoints } = await trouble
  ended = true
  await processes.stop()
  problems.push(
    ...(await checkEnd(superuser, ledgers).catch((error: Error) => [`the books can't be closed: ${error.message}`])),
  )
  await superuser.end()
  await operator.close()
  const counts: Record<string, number> = {}
  for (const { counts: own } of ledgers) {
    for (const [what, number] of Object.entries(own)) counts[what] = (counts[what] ?? 0) + number
  }
  return {
    operations: done() + processes.operations,
    counts,
    killedProcesses: processes.killed,
    terminatedBackends,
    checkpoints,
    changedLimits,
    problems,
  }
}

async function prepare({ app, operator }: RandomOperationsOptions['urls']): Promise<void> {
  const rowhouse = createRowhouse({ connectionString: app, admin: { connectionString: operator } })
  const { quotas, prices, tenants } = rowhouse
  await prices.set('large', { inputTokens: 2, outputTokens: 10 })
  await quotas.define('tokens_rolling', { metric: 'tokens', period: 'rolling', windowMs: 1000 })
  for (const tenant of TENANTS) {
    await tenants.provision(tenant, { tier: 'enterprise' })
  }
  // One spends its money before the end; one has few slots; one is held back by its rolling quota.
  await quotas.set('poor', 'money_per_month', { limit: 0.5, softLimit: 0.4 })
  await quotas.set('narrow', 'concurrency', { limit: 12 })
  await quotas.set('rolling', 'tokens_rolling', { limit: 4000, softLimit: 3000 })
  await rowhouse.close()
}

/** Raises and lowers limits, below what is used and reserved, too. */
async function changeLimits({ quotas, rateLimits }: Rowhouse, random: (below: number) => number): Promise<void> {
  await quotas.set('narrow', 'concurrency', { limit: 4 + random(12) })
  await quotas.set('rolling', 'tokens_rolling', { limit: 2000 + random(4000), softLimit: 3000 })
  await quotas.set('poor', 'money_per_month', { limit: (40 + random(20)) / 100, softLimit: 0.4 })
  await rateLimits.set('steady', 'requests', [{ limit: 1 + random(6), windowMs: 1000 }])
}

/** Does something for each tenant, as one statement of the tenant. */
async function forEachTenant<T>(client: pg.Client, read: (tenant: string) => Promise<readonly T[]>): Promise<T[]> {
  const found: T[] = []
  for (const tenant of TENANTS) {
    await client.query(`begin; set local app.tenant_id = '${tenant}'`)
    found.push(...(await read(tenant)))
    await client.query('commit')
  }
  return found
}

/** One statement sees one state of the books, whatever is going on: it must balance at every commit. */
async function checkBooks(client: pg.Client): Promise<string[]> {
  return forEachTenant(client, async (tenant) => {
    const { rows } = await client.query('select * from rowhouse.budget_differences()')
    return rows.map((row) => `${tenant}: ${JSON.stringify(row)}`)
  })
}

async function checkEnd(client: pg.Client, ledgers: readonly Ledger[]): Promise<string[]> {
  const problems = await checkBooks(client)
  // Leases of orphans run out by themselves, and the next call of their tenant takes back what they held.
  for (const deadline = Date.now() + 2 * LEASE_MS; ; await sleep(100)) {
    const running = await forEachTenant(client, async (tenant) => {
      const { rows } = await client.query(
        `select from rowhouse.reservations where tenant_id = $1 and status = 'active' and expires_at > clock_timestamp()`,
        [tenant],
      )
      return rows
    })
    if (running.length === 0) break
    if (Date.now() > deadline) throw new Error(`${running.length} leases do not run out`)
  }
  problems.push(
    ...(await forEachTenant(client, async (tenant) => {
      await client.query(`select rowhouse.admit('the last of ${tenant}', '{}', p_rate_limit => null)`)
      await client.query(`select rowhouse.release('the last of ${tenant}')`)
      const { rows } = await client.query<{ name: string }>(
        'select name from rowhouse.quota_counters where tenant_id = $1 and reserved <> 0',
        [tenant],
      )
      return rows.map(({ name }) => `${tenant}: ${name} is still reserved`)
    })),
    ...(await forEachTenant(client, async (tenant) => {
      const { rows } = await client.query('select * from rowhouse.reconcile_usage()')
      return rows.map((row) => `${tenant}: ${JSON.stringify(row)}`)
    })),
  )
  const { rows } = await client.query<{ key: string; cost: string }>(
    `select tenant_id || ' ' || request_id || ' ' || part as key, cost::text as cost from rowhouse.usage_events`,
  )
  const booked = new Map(rows.map(({ key, cost }) => [key, toMillionths(cost)]))
  let late = 0n
  for (const { costs, lateCosts } of ledgers) {
    for (const [key, cost] of costs) {
      if (booked.get(key) !== cost) problems.push(`${key} was settled at ${cost}, and is booked at ${booked.get(key)}`)
    }
    for (const cost of lateCosts.values()) late += cost
  }
  const { rows: overruns } = await client.query<{ overrun: string }>(
    `select coalesce(sum(overrun), 0)::text as overrun from rowhouse.quota_counters where name = 'money_per_month'`,
  )
  // Killed processes settle late too, and nobody knows of what they settled: their share is not held against the sum.
  const fromKilled = rows
    .filter(({ key }) => key.includes('killed'))
    .reduce((sum, { cost }) => sum + toMillionths(cost), 0n)
  if (toMillionths(overruns[0]!.overrun) > late + fromKilled) problems.push('more overrun than late settlements')
  return problems
}

/** Processes that work until they are killed, and are replaced. */
class KilledProcesses {
  readonly #url: string
  readonly #seed: number
  readonly #onProblem: (problem: string) => void
  readonly #children: ChildProcess[] = []
  #started = 0
  #finished = 0
  readonly #running = new Map<ChildProcess, number>()
  killed = 0

  constructor(url: string, seed: number, onProblem: (problem: string) => void) {
    this.#url = url
    this.#seed = seed
    this.#onProblem = onProblem
    for (let number = 0; number < PROCESSES; number++) this.#start(number)
  }

  get operations(): number {
    return this.#finished + [...this.#running.values()].reduce((sum, own) => sum + own, 0)
  }

  killOne(number: number): void {
    this.#children[number]!.kill('SIGKILL')
    this.killed++
    this.#start(number)
  }

  async stop(): Promise<void> {
    await Promise.all(
      this.#children.map(async (child) => {
        const exited = new Promise((resolve) => child.once('exit', resolve))
        child.kill('SIGKILL')
        await exited
      }),
    )
  }

  #start(number: number): void {
    const started = this.#started++
    const args = [this.#url, `killed-${this.#seed}-${started}`, String(this.#seed + 1000 * (started + 1))]
    const child = fork(join(import.meta.dirname, 'random-operations-process.ts'), args)
    this.#children[number] = child
    this.#running.set(child, 0)
    child.on('message', (message: { operations?: number; error?: string }) => {
      if (message.error !== undefined) this.#onProblem(message.error)
      else this.#running.set(child, message.operations ?? 0)
    })
    child.once('exit', () => {
      this.#finished += this.#running.get(child) ?? 0
      this.#running.delete(child)
    })
  }
}
