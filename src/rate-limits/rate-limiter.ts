import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'kysely'
import type { TenantExecutor } from '../context/tenant-executor.ts'
import { createRowhouseError, RateLimitedError } from '../errors.ts'
import type { DispatchedDecision, RateLimitDispatcher } from './rate-limit-dispatcher.ts'
import { parseLease } from './rate-limit-lease.ts'
import {
  type AcquireRateLimitOptions,
  parseCost,
  parseRule,
  parseSubject,
  type RateLimitOptions,
  type RateLimitRule,
  type RateLimitWindow,
  type TakeRateLimitOptions,
} from './rate-limit-options.ts'
import { type RateLimitDecision, type RateLimitResult, resultOfCall, resultOfLook } from './rate-limit-result.ts'
import { takeRateLimit } from './take-rate-limit.ts'

const DEFAULT_TIMEOUT_MS = 30_000

/** A limit that holds for a tenant. */
export interface EffectiveRateLimit {
  readonly name: string
  /** Whether it is the tenant's own, that of its tier, or that of all tiers. */
  readonly source: 'tenant' | 'tier' | 'default'
  readonly windows: readonly RateLimitWindow[]
}

/**
 * Limits how much a tenant, or a subject within it (a user, a key, a route), does in a window of time.
 *
 * All windows of a limit hold at once: a call is admitted by all of them, or counted by none. Decisions are made by the
 * database, on its clock. Concurrent calls of one process go to it together, in one statement and one round trip.
 *
 * Inside `withTenant` calls join the transaction: others wait for the counter until it ends, as calls do that budgets
 * admit, and a rollback gives back what was used. Prefer `rowhouse.tenant(id).rateLimiter`, before the transaction.
 *
 * Calls that the database denies are in the audit trail of the tenant, at most one a minute for each limit, unless the
 * transaction that they join is rolled back: {@link AuditLog.denials}.
 *
 * SQL: `select rowhouse.take_rate_limit(...)`; from other languages `select rowhouse.rate_limit('user:7')`.
 *
 * Errors of all calls: `RowhouseError` of the codes `invalid_cost` (also a cost above a limit, which could never be
 * admitted), `invalid_rate_limit`, `unknown_rate_limit`, `invalid_argument`, and those of the tenant.
 *
 * @example
 * ```ts
 * const { rateLimiter } = rowhouse.tenant('acme')
 * if (!(await rateLimiter.allow('user:7'))) return new Response('slow down', { status: 429 })
 * ```
 */
export class RateLimiter {
  readonly #executor: TenantExecutor
  /** Undefined for the limiter of a `withTenant` callback. */
  readonly #dispatcher: RateLimitDispatcher | undefined

  /** @internal */
  constructor(executor: TenantExecutor, dispatcher: RateLimitDispatcher | undefined) {
    this.#executor = executor
    this.#dispatcher = dispatcher
  }

  /**
   * Takes `cost` (default 1) of the subject's allowance, and says whether it was there. Without a subject, the tenant as
   * a whole.
   *
   * @example
   * ```ts
   * await rowhouse.tenant('acme').rateLimiter.allow('user:7', { windows: [{ limit: 10, windowMs: 1000 }] })
   * ```
   */
  async allow(subject?: string, options: TakeRateLimitOptions = {}): Promise<boolean> {
    if (options.lease !== undefined) return (await this.consume(subject, options)).allowed
    const { decision, index } = await this.#ask(parseRule(options), parseCall(subject, options))
    return index < decision.admitted!
  }

  /** As {@link allow}, with everything there is to tell, for example for response headers. */
  async consume(subject?: string, options: TakeRateLimitOptions = {}): Promise<RateLimitResult> {
    const call = parseCall(subject, options)
    const rule = parseRule(options)
    const lease = parseLease(options.lease)
    if (lease === undefined || this.#joinsTransaction) return toResult(await this.#ask(rule, call))
    if (rule.windows?.lengths.some((length) => length < 0)) {
      throw createRowhouseError('invalid_rate_limit', 'lease is for sliding windows; an allowance of gcra is not held.')
    }
    const leased = this.#dispatcher!.lease(this.#executor.tenantId, rule, call.subject)
    const known = await leased.call(call.cost, lease)
    if (known !== undefined) return known
    const result = toResult(await this.#ask(rule, call))
    leased.remember(call.cost, result)
    return result
  }

  /**
   * Says how the subject stands, and whether a call of `cost` (default 1) would be admitted now. Uses up nothing.
   *
   * @example
   * ```ts
   * const { limit, remaining, retryAfterMs } = await rowhouse.tenant('acme').rateLimiter.check('user:7')
   * ```
   */
  async check(subject?: string, options: RateLimitOptions = {}): Promise<RateLimitResult> {
    const call = parseCall(subject, options)
    const { decision } = await this.#ask(parseRule(options), call, { look: true })
    return resultOfLook(decision)
  }

  /**
   * Takes `cost` (default 1) of the subject's allowance, or throws {@link RateLimitedError} (HTTP 429) with
   * `retryAfterMs`. With `overflowMode: 'queue'` it waits for its turn instead.
   *
   * @example
   * ```ts
   * await rowhouse.tenant('acme').rateLimiter.acquire('model:large', { overflowMode: 'queue', timeoutMs: 5000 })
   * ```
   */
  async acquire(subject?: string, options: AcquireRateLimitOptions = {}): Promise<RateLimitResult> {
    const { overflowMode = 'reject', timeoutMs = DEFAULT_TIMEOUT_MS, signal } = options
    if (overflowMode !== 'reject' && overflowMode !== 'queue') {
      throw createRowhouseError('invalid_argument', 'overflowMode is "reject" or "queue".')
    }
    if (typeof timeoutMs !== 'number' || !(timeoutMs >= 0)) {
      throw createRowhouseError('invalid_argument', 'timeoutMs is a number of milliseconds from 0.')
    }
    signal?.throwIfAborted()
    if (overflowMode === 'reject') return orLimited(await this.consume(subject, options), subject, options)
    const { tenantId } = this.#executor
    if (this.#joinsTransaction) {
      throw createRowhouseError(
        'invalid_argument',
        'overflowMode "queue" inside withTenant would keep its transaction open.',
        {
          hint: 'Call rowhouse.tenant(id).rateLimiter.acquire before withTenant.',
        },
      )
    }
    const deadline = performance.now() + timeoutMs
    const leave = await this.#dispatcher!.queue(tenantId, parseRule(options), parseSubject(subject), {
      deadline,
      signal,
    })
    try {
      for (;;) {
        const result = await this.consume(subject, options)
        if (result.allowed || performance.now() + result.retryAfterMs > deadline)
          return orLimited(result, subject, options)
        await sleep(result.retryAfterMs, undefined, { signal }).catch(() => signal?.throwIfAborted())
      }
    } finally {
      leave()
    }
  }

  /**
   * The limits that hold for the tenant: its own, and those of its tier.
   *
   * SQL: `select * from rowhouse.rate_limits()`
   */
  async limits(): Promise<EffectiveRateLimit[]> {
    const { rows } = await sql<EffectiveRateLimit>`select name, source, windows from rowhouse.rate_limits()`.execute(
      this.#executor.db,
    )
    return rows
  }

  get #joinsTransaction(): boolean {
    return this.#dispatcher === undefined || this.#dispatcher.isInTransaction(this.#executor.tenantId)
  }

  async #ask(rule: RateLimitRule, { subject, cost }: Call, { look = false } = {}): Promise<DispatchedDecision> {
    const { tenantId, db } = this.#executor
    if (this.#joinsTransaction) {
      const call = { subject, cost, calls: look ? 0 : 1 }
      const [decision] = await takeRateLimit(db, rule, [call], { inTransaction: !look })
      return { decision: refuseImpossible(decision!), index: 0 }
    }
    const dispatched = await this.#dispatcher!.call(tenantId, rule, subject, cost, look)
    refuseImpossible(dispatched.decision)
    return dispatched
  }
}

interface Call {
  readonly subject: string
  readonly cost: number
}

function parseCall(subject: string | undefined, { cost }: RateLimitOptions): Call {
  return { subject: parseSubject(subject), cost: parseCost(cost) }
}

function toResult({ decision, index }: DispatchedDecision): RateLimitResult {
  return resultOfCall(decision, index)
}

function refuseImpossible(decision: RateLimitDecision): RateLimitDecision {
  if (decision.admitted !== null) return decision
  throw createRowhouseError(
    'invalid_cost',
    `The cost ${decision.cost} is above the limit of ${decision.windows[0]![0]}, so it could never be admitted.`,
  )
}

function orLimited(
  result: RateLimitResult,
  subject: string | undefined,
  { name, windows }: RateLimitOptions,
): RateLimitResult {
  if (result.allowed) return result
  const whom = subject === undefined || subject === '' ? 'The tenant' : `"${subject}"`
  throw new RateLimitedError(
    `${whom} is over its rate limit of ${result.limit}; try again in ${result.retryAfterMs} ms.`,
    result,
    name ?? (windows === undefined ? 'requests' : undefined),
  )
}
