import { setTimeout as sleep } from 'node:timers/promises'
import type { Kysely } from 'kysely'
import { afterPromises } from '../context/after-promises.ts'
import type { ContextRuntime } from '../context/context-runtime.ts'
import { joinAmbientTenant } from '../context/current-tenant.ts'
import { withRetry } from '../context/retry.ts'
import { RateLimitLease } from './rate-limit-lease.ts'
import type { RateLimitRule } from './rate-limit-options.ts'
import type { RateLimitDecision } from './rate-limit-result.ts'
import { takeRateLimit } from './take-rate-limit.ts'

/** Statements of one tenant and limit on their way at once: the next is prepared while the server works on one. */
const MAX_RUNNING = 2
/** Subjects of one statement at most, which bounds how long it holds their counters. */
const MAX_SUBJECTS = 200
/** Subjects that are not worth another statement. */
const MIN_SUBJECTS = 4
/** A transaction of the application may lock counters in another order. */
const RETRY = { attempts: 5, initialDelayMs: 5 }

/** The decision on equal calls that were decided together, and which of them this one is. */
export interface DispatchedDecision {
  readonly decision: RateLimitDecision
  readonly index: number
}

/** A call and where its answer goes. */
interface WaitingCall {
  readonly resolve: (answer: DispatchedDecision) => void
  readonly reject: (error: unknown) => void
}

/** Equal calls that are decided together. */
interface Group {
  readonly subject: string
  readonly cost: number
  readonly look: boolean
  readonly waiting: WaitingCall[]
}

/** Calls of one tenant and limit. */
class Lane {
  readonly #db: Kysely<any>
  readonly #rule: RateLimitRule
  readonly #onIdle: () => void
  /** In the order of their first call. */
  readonly #groups = new Map<string, Group>()
  /** Subjects that a running statement decides on. */
  readonly #busy = new Set<string>()
  #running = 0
  #scheduled = false

  constructor(db: Kysely<any>, rule: RateLimitRule, onIdle: () => void) {
    this.#db = db
    this.#rule = rule
    this.#onIdle = onIdle
  }

  call(subject: string, cost: number, look: boolean): Promise<DispatchedDecision> {
    return new Promise((resolve, reject) => {
      const key = `${look ? 'look' : 'take'} ${cost} ${subject}`
      let group = this.#groups.get(key)
      if (group === undefined) {
        group = { subject, cost, look, waiting: [] }
        this.#groups.set(key, group)
      }
      group.waiting.push({ resolve, reject })
      this.#schedule()
    })
  }

  #schedule(): void {
    if (this.#scheduled || this.#running >= MAX_RUNNING) return
    this.#scheduled = true
    void afterPromises().then(() => {
      this.#scheduled = false
      const groups = this.#takeGroups()
      if (groups.length > 0) void this.#decide(groups)
      else if (this.#running === 0) this.#onIdle()
    })
  }

  /** The groups whose subjects nobody is deciding on. */
  #takeGroups(): Group[] {
    const groups: Group[] = []
    const most = Math.min(
      Math.max(Math.ceil(this.#groups.size / (MAX_RUNNING - this.#running)), MIN_SUBJECTS),
      MAX_SUBJECTS,
    )
    for (const [key, group] of this.#groups) {
      if (groups.length === most) break
      if (this.#busy.has(group.subject)) continue
      this.#groups.delete(key)
      groups.push(group)
    }
    for (const { subject } of groups) this.#busy.add(subject)
    return groups
  }

  async #decide(groups: readonly Group[]): Promise<void> {
    this.#running++
    this.#schedule()
    try {
      const calls = groups.map(({ subject, cost, look, waiting }) => ({
        subject,
        cost,
        calls: look ? 0 : waiting.length,
      }))
      const decisions = await withRetry(RETRY, undefined, () => takeRateLimit(this.#db, this.#rule, calls))
      groups.forEach(({ waiting }, number) => {
        for (const [index, { resolve }] of waiting.entries()) resolve({ decision: decisions[number]!, index })
      })
    } catch (error) {
      for (const { waiting } of groups) for (const { reject } of waiting) reject(error)
    } finally {
      for (const { subject } of groups) this.#busy.delete(subject)
      this.#running--
      this.#schedule()
    }
  }
}

/**
 * Brings concurrent calls of this process together: those of one tenant and limit go to the database in one statement,
 * and those of one subject are decided there in one step. Each call still gets its own, exact answer.
 */
export class RateLimitDispatcher {
  readonly #runtime: ContextRuntime
  readonly #lanes = new Map<string, Lane>()
  readonly #leases = new Map<string, RateLimitLease>()
  #nextSweep = 1000
  /** The last call in each queue: settles when its turn has ended. */
  readonly #queues = new Map<string, Promise<void>>()

  constructor(runtime: ContextRuntime) {
    this.#runtime = runtime
  }

  /** Whether the code runs inside `withTenant`, whose transaction it joins: then there is nothing to bring together. */
  isInTransaction(tenantId: string): boolean {
    return joinAmbientTenant(tenantId, this.#runtime.source, {}) !== undefined
  }

  /** Decides on one call; its answer is the one at `index` of the decision. */
  call(
    tenantId: string,
    rule: RateLimitRule,
    subject: string,
    cost: number,
    look: boolean,
  ): Promise<DispatchedDecision> {
    const key = `${tenantId} ${rule.key}`
    let lane = this.#lanes.get(key)
    if (lane === undefined) {
      lane = new Lane(this.#database(tenantId), rule, () => this.#lanes.delete(key))
      this.#lanes.set(key, lane)
    }
    return lane.call(subject, cost, look)
  }

  /** The slices of a subject in leased mode. */
  lease(tenantId: string, rule: RateLimitRule, subject: string): RateLimitLease {
    const key = `${tenantId} ${rule.key} ${subject}`
    let lease = this.#leases.get(key)
    if (lease === undefined) {
      if (this.#leases.size >= this.#nextSweep) this.#dropIdleLeases()
      lease = new RateLimitLease(this.#database(tenantId), rule, subject)
      this.#leases.set(key, lease)
    }
    return lease
  }

  /** Waits behind the calls of this process that queue for the same subject already. The result ends the turn. */
  async queue(
    tenantId: string,
    rule: RateLimitRule,
    subject: string,
    { deadline, signal }: { deadline: number; signal: AbortSignal | undefined },
  ): Promise<() => void> {
    const key = `${tenantId} ${rule.key} ${subject}`
    const turn = Promise.withResolvers<void>()
    const previous = this.#queues.get(key)
    const last = (previous ?? Promise.resolve()).then(() => turn.promise)
    this.#queues.set(key, last)
    const leave = () => {
      turn.resolve()
      if (this.#queues.get(key) === last) this.#queues.delete(key)
    }
    try {
      if (previous !== undefined) await settled(previous, deadline, signal)
      return leave
    } catch (error) {
      leave()
      throw error
    }
  }

  #dropIdleLeases(): void {
    for (const [key, lease] of this.#leases) if (lease.idle) this.#leases.delete(key)
    this.#nextSweep = Math.max(2 * this.#leases.size, 1000)
  }

  /** The tenant's database as the limiter uses it: in the name of nobody in particular. */
  #database(tenantId: string): Kysely<any> {
    return this.#runtime.createCallKysely(tenantId, {})
  }
}

/** Waits for the turn, until the deadline at most: then the database has the last word. */
async function settled(turn: Promise<void>, deadline: number, signal: AbortSignal | undefined): Promise<void> {
  const timer = new AbortController()
  const stop = signal === undefined ? timer.signal : AbortSignal.any([timer.signal, signal])
  const timeout = sleep(Math.max(deadline - performance.now(), 0), undefined, { signal: stop }).catch(() => {})
  await Promise.race([turn, timeout])
  timer.abort()
  signal?.throwIfAborted()
}

const DISPATCHERS = new WeakMap<ContextRuntime, RateLimitDispatcher>()

/** The dispatcher that all contexts of one `createRowhouse` call share. */
export function dispatcherOf(runtime: ContextRuntime): RateLimitDispatcher {
  let dispatcher = DISPATCHERS.get(runtime)
  if (dispatcher === undefined) {
    dispatcher = new RateLimitDispatcher(runtime)
    DISPATCHERS.set(runtime, dispatcher)
  }
  return dispatcher
}
