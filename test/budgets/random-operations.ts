// Random operations on budgets by plain connections, as many processes of an application would do them.
import pg from 'pg'

/** How it all is set up; the same for every process that takes part. */
export const TENANTS = ['steady', 'poor', 'narrow', 'rolling'] as const
/** Of most calls: long for them, and short enough to wait for the end of those that nobody ends. */
export const LEASE_MS = 6000
export const PRICES = { input_tokens: 2n, output_tokens: 10n } // millionths of the currency

/** Random numbers that are the same for the same seed. */
export function randomSource(seed: number): (below: number) => number {
  let state = (seed * 2654435761) >>> 0
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0
    let bits = Math.imul(state ^ (state >>> 15), state | 1)
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61)
    return ((bits ^ (bits >>> 14)) >>> 0) % below
  }
}

interface Units {
  readonly input_tokens: number
  readonly output_tokens: number
}

interface Call {
  readonly tenant: string
  readonly requestId: string
  readonly worst: Units
  readonly endsBy: number
  /** How many parts of it were settled, and what is left of its worst case for others. */
  parts: number
  rest: Units
  settled: boolean
}

/** What one connection knows for sure of what it did. */
export interface Ledger {
  operations: number
  readonly counts: Record<string, number>
  /** Millionths of the currency that were settled, by request: what the database must have booked, to the last digit. */
  readonly costs: Map<string, bigint>
  /** What was settled after the lease, or after a release. */
  readonly lateCosts: Map<string, bigint>
}

export function newLedger(): Ledger {
  return { operations: 0, counts: {}, costs: new Map(), lateCosts: new Map() }
}

export interface WorkerOptions {
  readonly url: string
  readonly name: string
  readonly seed: number
  readonly ledger: Ledger
  readonly until: () => boolean
  /** SQLSTATEs that must never reach a caller. */
  readonly onError: (error: Error) => void
}

/** Runs random operations on one connection until it is told to stop; reconnects when its backend was terminated. */
export async function work({ url, name, seed, ledger, until, onError }: WorkerOptions): Promise<void> {
  const random = randomSource(seed)
  const connection = new Connection(url)
  const calls: Call[] = []
  let number = 0
  /** Calls of the next shared statement, while it is put together. */
  let gathered: GatheredCall[] | undefined
  const pick = (wanted: (call: Call) => boolean) => {
    const fitting = calls.filter(wanted)
    return fitting.length === 0 ? undefined : fitting[random(fitting.length)]
  }
  const note = (what: string) => {
    ledger.counts[what] = (ledger.counts[what] ?? 0) + 1
  }
  const count = (what: string) => {
    ledger.operations++
    note(what)
  }

  while (!until()) {
    const dice = random(100)
    try {
      if (dice < 28) await admit()
      else if (dice < 36) await shareStatement()
      else if (dice < 40) await admitJoined()
      else if (dice < 46) await settlePart(pick((call) => !call.settled && Date.now() < call.endsBy))
      else if (dice < 72) await settle(pick((call) => !call.settled && Date.now() < call.endsBy))
      else if (dice < 80)
        await settle(pick((call) => call.settled)) // again
      else if (dice < 86)
        await settle(pick((call) => !call.settled && Date.now() > call.endsBy)) // late
      else if (dice < 92) await release(pick((call) => !call.settled))
      else if (dice < 97) await extend(pick((call) => !call.settled))
      else await admitAgain(pick((call) => !call.settled))
    } catch (error) {
      onError(error as Error)
    }
    if (calls.length > 200) calls.splice(0, 100)
  }
  await connection.end()

  /** Sometimes with a rate limit. */
  async function admit(before = ''): Promise<void> {
    const tenant = TENANTS[random(TENANTS.length)]!
    const requestId = `${name}-${number++}`
    const worst = { input_tokens: random(400), output_tokens: random(100) }
    const leaseMs = random(4) === 0 ? 20 + random(200) : LEASE_MS
    const call = { tenant, requestId, worst, endsBy: Date.now() + leaseMs, parts: 0, rest: worst, settled: false }
    const rateLimit = random(3) === 0 ? 'requests' : undefined
    const answer = await ask(tenant, `${before}${admitSql(call, leaseMs, rateLimit)}`, [], {
      function: 'admit',
      requestId,
      units: worst,
      model: 'large',
      leaseMs,
      rateLimit,
      subject: '',
      circuit: '',
    })
    count(
      answer === undefined ? 'lease over' : answer.admitted ? 'admitted' : `denied: ${answer.quota ?? answer.reason}`,
    )
    if (answer?.admitted) calls.push(call)
  }

  /** After the application took from a rate limit in the same transaction, of the same counter or of another. */
  async function admitJoined(): Promise<void> {
    count('joined')
    await admit(`select rowhouse.rate_limit('${random(2) === 0 ? '' : 'ann'}'); `)
  }

  async function admitAgain(call: Call | undefined): Promise<void> {
    if (call === undefined) return
    const answer = await ask(call.tenant, admitSql(call, LEASE_MS), ['RH056'])
    count('admit again')
    if (answer?.admitted && !answer.duplicate) throw new Error('a request id was admitted twice')
  }

  async function settlePart(call: Call | undefined): Promise<void> {
    if (call === undefined) return
    const { tenant, requestId, rest } = call
    const part = `part ${call.parts++}`
    const used = { input_tokens: random(rest.input_tokens + 1), output_tokens: random(rest.output_tokens + 1) }
    call.rest = {
      input_tokens: rest.input_tokens - used.input_tokens,
      output_tokens: rest.output_tokens - used.output_tokens,
    }
    const answer = await ask(
      tenant,
      `select rowhouse.settle('${requestId}', '${JSON.stringify(used)}', '${part}') as answer`,
    )
    count('settle a part')
    if (toMillionths(answer!.cost) !== costOf(used)) throw new Error(`${part} was settled at ${answer!.cost}`)
    ledger.costs.set(`${tenant} ${requestId} ${part}`, costOf(used))
    if (Date.now() > call.endsBy) ledger.lateCosts.set(`${tenant} ${requestId} ${part}`, costOf(used))
  }

  async function settle(call: Call | undefined): Promise<void> {
    if (call === undefined) return
    const { tenant, requestId, rest } = call
    const late = Date.now() > call.endsBy
    const used = { input_tokens: random(rest.input_tokens + 1), output_tokens: random(rest.output_tokens + 1) }
    const sql = `select rowhouse.settle('${requestId}', '${JSON.stringify(used)}') as answer`
    const answer = await ask(tenant, sql, [], { function: 'settle', requestId, units: used, part: '', details: {} })
    count(call.settled ? 'settle again' : late ? 'settle late' : 'settle')
    if (call.settled && !answer!.duplicate) throw new Error('a request was settled twice')
    const cost = answer!.retried ? toMillionths(answer!.cost) : costOf(used)
    if (!call.settled) {
      if (toMillionths(answer!.cost) !== cost) throw new Error(`settled at ${answer!.cost}, not ${cost} millionths`)
      ledger.costs.set(`${tenant} ${requestId} `, cost)
      // Its lease may have run out on the way.
      if (Date.now() > call.endsBy) ledger.lateCosts.set(`${tenant} ${requestId} `, cost)
    }
    call.settled = true
  }

  async function release(call: Call | undefined): Promise<void> {
    if (call === undefined) return
    await ask(call.tenant, `select to_jsonb(rowhouse.release('${call.requestId}')) as answer`)
    count('release')
    // Whatever it settles from now on is late.
    Object.assign(call, { endsBy: 0 })
  }

  async function extend(call: Call | undefined): Promise<void> {
    if (call === undefined) return
    const until = await ask(call.tenant, `select to_jsonb(rowhouse.extend_lease('${call.requestId}', 100)) as answer`, [
      'RH057',
    ])
    count(until === undefined ? 'extend refused' : 'extend')
  }

  /** Several calls, of several tenants and in any order, in one statement. */
  async function shareStatement(): Promise<void> {
    gathered = []
    const operations = Promise.all(
      Array.from({ length: 2 + random(5) }, () => (random(2) === 0 ? admit() : settle(pick(() => true)))),
    )
    const calls = gathered
    gathered = undefined
    const answers = calls.length === 0 ? [] : await connection.askTogether(calls).catch((error: Error) => error)
    for (const [index, { take }] of calls.entries()) take(answers instanceof Error ? answers : answers[index])
    await operations
  }

  /**
   * Once; and again with the same words when the answer was lost, which must change nothing. As part of a shared statement
   * where one is put together, and again when it was not done there.
   */
  async function ask(tenant: string, sql: string, refusals: readonly string[] = [], shared?: object): Promise<any> {
    let attempt = 0
    if (gathered !== undefined && shared !== undefined) {
      const calls = gathered
      const answer = await new Promise((take) => calls.push({ tenant, ...shared, take }))
      note(answer === null ? 'shared, not done' : answer instanceof Error ? 'shared, undone' : 'shared')
      if (answer instanceof Error) {
        if (isLostConnection(answer)) attempt++
        else if (!SHARED_REFUSALS.includes((answer as { code?: string }).code!)) throw answer
      } else if (answer !== null) return answer
    }
    for (; ; attempt++) {
      try {
        const answer = await connection.ask(tenant, sql)
        return typeof answer === 'object' && answer !== null ? { ...answer, retried: attempt > 0 } : answer
      } catch (error) {
        const { code } = error as { code?: string }
        if (code !== undefined && refusals.includes(code)) return undefined
        // A short lease may be over before a lost admission is repeated.
        if (attempt > 0 && code === 'RH056') return undefined
        if (!isLostConnection(error)) throw error
        note('connection lost')
      }
    }
  }
}

function admitSql({ requestId, worst }: Call, leaseMs: number, rateLimit?: string): string {
  const limit = rateLimit === undefined ? 'null' : `'${rateLimit}'`
  return `select rowhouse.admit('${requestId}', '${JSON.stringify(worst)}', 'large', ${leaseMs}, ${limit}) as answer`
}

function costOf({ input_tokens, output_tokens }: Units): bigint {
  return BigInt(input_tokens) * PRICES.input_tokens + BigInt(output_tokens) * PRICES.output_tokens
}

export function toMillionths(amount: string): bigint {
  const [whole, decimals = ''] = amount.split('.')
  if (decimals.length > 6) throw new Error(`${amount} is no whole number of millionths`)
  return BigInt(whole! + decimals.padEnd(6, '0'))
}

/** A call of a shared statement, and who takes its answer: null when it is to be made alone. */
interface GatheredCall {
  readonly tenant: string
  readonly take: (answer: any) => void
}

/** What undoes a shared statement without being a mistake: a lock that took too long. */
const SHARED_REFUSALS = ['55P03']

/** One transaction in one message, as a tenant; connects anew after a failure. */
class Connection {
  readonly #url: string
  #client: pg.Client | undefined
  #last: Promise<unknown> = Promise.resolve()

  constructor(url: string) {
    this.#url = url
  }

  ask(tenant: string, sql: string): Promise<any> {
    return this.#ask(`set local app.tenant_id = '${tenant}'; ${sql}`)
  }

  askTogether(calls: readonly GatheredCall[]): Promise<any[]> {
    const answers = `select rowhouse.call_for_tenant(c.value) as answer
      from jsonb_array_elements(${pg.escapeLiteral(JSON.stringify(calls))}) with ordinality c (value, place) order by c.place`
    return this.#ask(`select jsonb_agg(a.answer) as answer from (${answers}) a`)
  }

  /** One after another. */
  #ask(sql: string): Promise<any> {
    const answer = this.#last.then(() => this.#askNow(sql))
    this.#last = answer.catch(() => {})
    return answer
  }

  async #askNow(sql: string): Promise<any> {
    this.#client ??= await this.#connect()
    try {
      const results = (await this.#client.query(
        `begin; set local role rowhouse_app; ${sql}; commit`,
      )) as unknown as pg.QueryResult[]
      return results.at(-2)!.rows[0].answer
    } catch (error) {
      if (isLostConnection(error)) {
        this.#client.end().catch(() => {})
        this.#client = undefined
      } else await this.#client.query('rollback')
      throw error
    }
  }

  async end(): Promise<void> {
    await this.#client?.end()
  }

  async #connect(): Promise<pg.Client> {
    const client = new pg.Client({ connectionString: this.#url, application_name: 'random operations' })
    client.on('error', () => {})
    await client.connect()
    return client
  }
}

function isLostConnection(error: unknown): boolean {
  const { code, message } = error as { code?: string; message: string }
  if (code === undefined) return /connection|terminat|closed|not queryable/i.test(message)
  return code === '57P01' || code === 'ECONNRESET' || code === 'EPIPE'
}
