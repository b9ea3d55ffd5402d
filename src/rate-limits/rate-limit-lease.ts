import type { Kysely } from 'kysely'
import { createRowhouseError } from '../errors.ts'
import type { RateLimitLeaseOptions, RateLimitRule } from './rate-limit-options.ts'
import type { RateLimitResult, WindowTuple } from './rate-limit-result.ts'
import { resultOfCall } from './rate-limit-result.ts'
import { takeRateLimit } from './take-rate-limit.ts'

const DEFAULT_SIZE = 100
const DEFAULT_TTL_MS = 1000
/** A slice is at most this part of the limit, so that a few processes can share one. */
const MAX_PART = 10
/** How long a denial is repeated without asking at most: limits may be raised meanwhile. */
const MAX_DENIAL_MS = 1000

/** Checks the options of the leased mode; undefined when it is off. */
export function parseLease(lease: boolean | RateLimitLeaseOptions | undefined): Required<LeaseSize> | undefined {
  if (lease === undefined || lease === false) return undefined
  const { size = DEFAULT_SIZE, ttlMs = DEFAULT_TTL_MS } = lease === true ? {} : lease
  if (Number.isInteger(size) && size >= 1 && size <= 1e6 && Number.isInteger(ttlMs) && ttlMs >= 1 && ttlMs <= 60_000) {
    return { size, ttlMs }
  }
  throw createRowhouseError(
    'invalid_argument',
    'lease.size is a whole number from 1 to 1000000, lease.ttlMs one from 1 to 60000.',
  )
}

interface LeaseSize {
  readonly size: number
  readonly ttlMs: number
}

/** Something that was learned from the database and holds for some time. */
interface Held {
  /** By the clock that only runs forward, and by the wall clock, which notices that the machine slept. */
  readonly since: { readonly steady: number; readonly wall: number }
  readonly forMs: number
}

/**
 * Slices of one subject's allowance.
 *
 * The database counts a slice as used at the end of its time, so whenever it is spent, no window holds more than the
 * limit. Its time begins here before the database has even heard of it, so it ends here first.
 */
export class RateLimitLease {
  readonly #db: Kysely<any>
  readonly #rule: RateLimitRule
  readonly #subject: string
  #left = 0
  #slice: (Held & { readonly decidedAt: number; readonly windows: readonly WindowTuple[] }) | undefined
  #denial: (Held & { readonly cost: number; readonly result: RateLimitResult }) | undefined
  #refill: Promise<void> | undefined
  #smallestLimit: number | undefined

  constructor(db: Kysely<any>, rule: RateLimitRule, subject: string) {
    this.#db = db
    this.#rule = rule
    this.#subject = subject
  }

  /** Whether forgetting it would lose nothing. */
  get idle(): boolean {
    return this.#refill === undefined && !holds(this.#slice) && !holds(this.#denial)
  }

  /** Answers a call out of the slice, if need be a new one; undefined when the database has to decide on it alone. */
  async call(cost: number, { size, ttlMs }: LeaseSize): Promise<RateLimitResult | undefined> {
    for (let refills = 0; ; ) {
      const known = this.#spend(cost)
      if (known !== undefined) return known
      if (this.#refill === undefined) {
        // One slice was not enough for those in front of this call; the limit is near.
        if (refills++ > 0) return undefined
        const room =
          this.#smallestLimit === undefined ? Math.min(size, MAX_PART) : Math.ceil(this.#smallestLimit / MAX_PART)
        if (cost > Math.min(size, room)) return undefined
        this.#refill = this.#takeSlice(Math.min(size, room), ttlMs).finally(() => {
          this.#refill = undefined
        })
      }
      await this.#refill
    }
  }

  /** Remembers that the database denied a call: until then it would deny equal ones, and more expensive ones. */
  remember(cost: number, result: RateLimitResult): void {
    if (result.allowed) return
    this.#denial = { since: now(), forMs: Math.min(result.retryAfterMs, MAX_DENIAL_MS), cost, result }
  }

  #spend(cost: number): RateLimitResult | undefined {
    const slice = this.#slice
    if (this.#left >= cost && slice !== undefined && holds(slice)) {
      this.#left -= cost
      const passed = performance.now() - slice.since.steady
      const windows = slice.windows.map(([limit, length, remaining, resetMs]): WindowTuple => {
        return [limit, length, remaining + this.#left, Math.max(Math.ceil(resetMs - passed), 0), 0]
      })
      return resultOfCall({ cost, admitted: 1, decidedAt: slice.decidedAt + passed, windows }, 0)
    }
    const denial = this.#denial
    if (denial !== undefined && cost >= denial.cost && holds(denial)) {
      const passed = performance.now() - denial.since.steady
      return { ...denial.result, retryAfterMs: Math.max(Math.ceil(denial.result.retryAfterMs - passed), 1) }
    }
    return undefined
  }

  async #takeSlice(size: number, ttlMs: number): Promise<void> {
    const since = now()
    const [decision] = await takeRateLimit(this.#db, this.#rule, [{ subject: this.#subject, cost: 1, calls: size }], {
      holdMs: ttlMs,
    })
    const { admitted, decidedAt, windows } = decision!
    this.#left = admitted ?? 0
    this.#slice = { since, forMs: ttlMs, decidedAt, windows }
    this.#smallestLimit = Math.min(...windows.map(([limit]) => limit))
  }
}

function now(): Held['since'] {
  return { steady: performance.now(), wall: Date.now() }
}

function holds(held: Held | undefined): boolean {
  if (held === undefined) return false
  const wall = Date.now() - held.since.wall
  return performance.now() - held.since.steady < held.forMs && wall >= 0 && wall < held.forMs
}
