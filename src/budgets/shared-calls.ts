import { CompiledQuery, type Kysely, type RawBuilder } from 'kysely'
import { afterPromises } from '../context/after-promises.ts'
import { runWithoutAmbientTenant } from '../context/current-tenant.ts'
import type { TenantExecutor } from '../context/tenant-executor.ts'
import { type CallLane, databaseErrorOf, isUndone, laneOf, type WaitingCall } from './call-lane.ts'

/** Statements on their way at once: while the server works on some, the next one is put together. */
const MAX_RUNNING = 3
/** Calls of one statement at most, which bounds how long a tenant waits for the calls of others. */
const MAX_CALLS = 16
/** Calls of a tenant that share. With more it has enough of its own to fill a transaction, and does not hold up others. */
const MAX_CALLS_OF_TENANT = 4
/** After this time a statement, which waits for a broken network perhaps, no longer keeps others from being sent. */
const SLOW_MS = 200
/** How long a tenant makes its calls alone after one of them failed, which undoes what others had shared with it. */
const APART_MS = 1000
/** How many of them are remembered. */
const MAX_APART = 10_000

/** A call that may be made beside those of other tenants. */
interface SharedCall extends WaitingCall {
  /** The call as members of a JSON object. */
  readonly shared: string
  /** Where the tenant makes its calls alone. */
  readonly lane: CallLane
}

/**
 * Brings calls of several tenants together, in statements of `rowhouse.call_for_tenant`. Each tenant has at most one
 * shared statement on its way. Calls that would have to wait in the database, or that fail, are made again in statements
 * of their tenant alone, so that nobody waits for what another tenant holds, or gets its errors.
 */
class SharedCalls {
  readonly #db: Kysely<any>
  /** In the order of their first call. */
  readonly #waiting = new Map<string, SharedCall[]>()
  /** Tenants that a running statement works for. */
  readonly #busy = new Set<string>()
  /** Tenants that make their calls alone, and until when. */
  readonly #apart = new Map<string, number>()
  #running = 0
  #scheduled = false

  constructor(db: Kysely<any>) {
    this.#db = db
  }

  run(tenantId: string, call: SharedCall): void {
    if (this.#isApart(tenantId)) {
      this.#callAlone(tenantId, call)
      return
    }
    const calls = this.#waiting.get(tenantId)
    if (calls === undefined) this.#waiting.set(tenantId, [call])
    else calls.push(call)
    this.#schedule()
  }

  #schedule(): void {
    if (this.#scheduled || this.#running >= MAX_RUNNING || this.#waiting.size === 0) return
    this.#scheduled = true
    void runWithoutAmbientTenant(async () => {
      await afterPromises()
      this.#scheduled = false
      const calls = this.#takeCalls()
      if (calls.length > 0) await this.#runTogether(calls)
    })
  }

  /** Calls of tenants that no statement works for. */
  #takeCalls(): [tenantId: string, call: SharedCall][] {
    const taken: [string, SharedCall][] = []
    // What waits is split between the statements that may run.
    const most = Math.min(Math.ceil(this.#count() / (MAX_RUNNING - this.#running)), MAX_CALLS)
    for (const [tenantId, calls] of this.#waiting) {
      if (taken.length >= most) break
      if (this.#busy.has(tenantId)) continue
      if (calls.length > MAX_CALLS_OF_TENANT || calls[0]!.lane.isRunning) {
        this.#waiting.delete(tenantId)
        for (const call of calls) this.#callAlone(tenantId, call)
        continue
      }
      if (taken.length + calls.length > MAX_CALLS) continue
      this.#waiting.delete(tenantId)
      for (const call of calls) taken.push([tenantId, call])
    }
    return taken
  }

  #count(): number {
    let count = 0
    for (const calls of this.#waiting.values()) count += calls.length
    return count
  }

  async #runTogether(calls: readonly [tenantId: string, call: SharedCall][]): Promise<void> {
    for (const [tenantId] of calls) this.#busy.add(tenantId)
    const ended = this.#begin()
    try {
      const answers = await callForTenants(this.#db, calls)
      calls.forEach(([tenantId, call], number) => {
        const answer = answers[number]
        if (answer === null) this.#callAlone(tenantId, call)
        else call.resolve(answer)
      })
    } catch (error) {
      const fail = isUndone(error) ? undefined : withoutContext(error)
      for (const [tenantId, call] of calls) {
        if (fail === undefined) this.#callAlone(tenantId, call)
        else call.reject(fail)
      }
    } finally {
      for (const [tenantId] of calls) this.#busy.delete(tenantId)
      ended()
    }
  }

  /** Counts a statement as running, until the result is called, or it is slow. */
  #begin(): () => void {
    this.#running++
    this.#schedule()
    let counts = true
    const stop = () => {
      if (counts) this.#running--
      counts = false
      this.#schedule()
    }
    const timer = setTimeout(stop, SLOW_MS)
    return () => {
      clearTimeout(timer)
      stop()
    }
  }

  #callAlone(tenantId: string, { lane, ...call }: SharedCall): void {
    const reject = (error: unknown) => {
      if (isUndone(error)) this.#setApart(tenantId)
      call.reject(error)
    }
    lane.run({ ...call, reject })
  }

  #setApart(tenantId: string): void {
    if (this.#apart.size >= MAX_APART) this.#apart.clear()
    this.#apart.set(tenantId, performance.now() + APART_MS)
  }

  #isApart(tenantId: string): boolean {
    const until = this.#apart.get(tenantId)
    if (until === undefined) return false
    if (performance.now() < until) return true
    this.#apart.delete(tenantId)
    return false
  }
}

/** Makes calls in one statement; null for one that has to be made alone. */
async function callForTenants(
  db: Kysely<any>,
  calls: readonly [tenantId: string, call: SharedCall][],
): Promise<readonly unknown[]> {
  const members = calls.map(([tenant, { caller, shared }]) => {
    // As they arrive where they are not part of JSON.
    const user = caller.userId?.toWellFormed()
    const request = caller.requestId?.toWellFormed()
    return `{${toMembers({ tenant, user, request })},${shared}}`
  })
  const { rows } = await db.executeQuery<{ answer: unknown }>(
    CompiledQuery.raw(CALL_FOR_TENANTS, [`[${members.join(',')}]`]),
  )
  return rows.map(({ answer }) => answer)
}

/** Constant, so it is not put together anew for each statement. The calls are made, and answered, in their order. */
const CALL_FOR_TENANTS =
  'select rowhouse.call_for_tenant(c.value) as answer from pg_catalog.jsonb_array_elements($1) c (value)'

/** A call as members of a JSON object; `json` are those that are JSON already, whose numbers keep all their digits. */
export function toMembers(
  plain: Readonly<Record<string, unknown>>,
  json: Readonly<Record<string, string>> = {},
): string {
  const members = Object.entries(json).map(([name, value]) => `"${name}":${value}`)
  return [JSON.stringify(plain).slice(1, -1), ...members].join(',')
}

/** An error of the server without the values that it may tell, for those whose values they are not. */
function withoutContext(error: unknown): unknown {
  const raised = databaseErrorOf(error)
  if (raised !== undefined) Object.assign(raised, { where: undefined, detail: undefined })
  return error
}

const SHARED_CALLS = new WeakMap<Kysely<any>, SharedCalls>()

function sharedCallsOf(db: Kysely<any>): SharedCalls {
  let shared = SHARED_CALLS.get(db)
  if (shared === undefined) {
    shared = new SharedCalls(db)
    SHARED_CALLS.set(db, shared)
  }
  return shared
}

/**
 * Calls a function of rowhouse outside of a transaction: beside calls of other tenants where it may be `shared`, else
 * beside those of its own tenant.
 */
export function callTogether<T>(
  { tenantId, calls, callsOfSeveral, caller }: TenantExecutor,
  call: RawBuilder<T>,
  shared: string | undefined,
): Promise<T> {
  const lane = laneOf(calls)
  return new Promise((resolve, reject) => {
    const waiting = { call, caller, resolve, reject }
    // Those that come while the lane is at work are part of its next transaction.
    if (shared === undefined || callsOfSeveral === undefined || lane.isRunning) lane.run(waiting)
    else sharedCallsOf(callsOfSeveral).run(tenantId, { ...waiting, shared, lane })
  })
}
