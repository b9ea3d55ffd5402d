import * as z from 'zod'
import { createRowhouseError } from '../errors.ts'

/** One window of a rate limit. */
export interface RateLimitWindow {
  /** How much is admitted in a window: whole number from 1. */
  readonly limit: number
  /** Length of the window in milliseconds, up to 366 days. */
  readonly windowMs: number
  /**
   * `sliding_window` (default): never more than `limit` in any window of this length, wherever it begins.
   * `gcra`: an even pace of `limit` a window, with at most `burst` at once.
   */
  readonly algorithm?: 'sliding_window' | 'gcra' | undefined
  /** Only with `gcra`: how much is admitted at once. Default `limit`. */
  readonly burst?: number | undefined
}

/** Which limit a call counts for, and how much. */
export interface RateLimitOptions {
  /** What the call uses up: a whole number from 1. Default 1. */
  readonly cost?: number | undefined
  /** Name of a stored limit: the tenant's own, or that of its tier. Default `requests`. */
  readonly name?: string | undefined
  /** Windows in place of stored ones; all of them hold at once. Calls with the same windows share their counters. */
  readonly windows?: readonly RateLimitWindow[] | undefined
}

/** Options of calls that use something up. */
export interface TakeRateLimitOptions extends RateLimitOptions {
  /**
   * Takes a slice of the allowance out of the database and spends it in this process, so that most calls need no
   * statement. Never over the limit; what is not spent in `ttlMs` is lost until the window has passed, so calls may be
   * denied that the limit had room for. A slice that was taken is spent even when the limit is lowered or the tenant
   * suspended meanwhile, so such a change holds within `ttlMs`. Only for sliding windows; not used inside `withTenant`. Default false.
   */
  readonly lease?: boolean | RateLimitLeaseOptions | undefined
}

export interface RateLimitLeaseOptions {
  /** Size of a slice at most; it is also at most a tenth of the limit. Default 100. */
  readonly size?: number | undefined
  /** How long a slice may be spent, 1 to 60000 milliseconds. Default 1000. */
  readonly ttlMs?: number | undefined
}

/** Options of {@link RateLimiter.acquire}. */
export interface AcquireRateLimitOptions extends TakeRateLimitOptions {
  /**
   * What happens to a call over the limit. `reject` (default): {@link RateLimitedError}. `queue`: it waits for its turn,
   * in the order of arrival in this process, without a connection.
   */
  readonly overflowMode?: 'reject' | 'queue' | undefined
  /** How long `queue` waits at most, in milliseconds. A call that can't be admitted in time is refused at once. Default 30000. */
  readonly timeoutMs?: number | undefined
  /** Ends the waiting. */
  readonly signal?: AbortSignal | undefined
}

/** A limit as the database takes it: a name, or windows as three arrays, ascending by length. */
export interface RateLimitRule {
  /** Equal for equal limits. */
  readonly key: string
  readonly name: string | null
  readonly windows: { readonly limits: number[]; readonly lengths: number[]; readonly bursts: number[] } | null
}

export const MAX_AMOUNT = 1e12
const MAX_WINDOW_MS = 366 * 24 * 3600 * 1000
/** Rules of option objects that were seen before: most applications have a few, kept in constants. */
const RULES = new WeakMap<readonly RateLimitWindow[], RateLimitRule>()

const whole = (most: number) =>
  z
    .number(`is a whole number from 1 to ${most}`)
    .refine((value) => Number.isInteger(value) && value >= 1 && value <= most, {
      message: `is a whole number from 1 to ${most}`,
    })
const windowSchema = z.strictObject({
  limit: whole(MAX_AMOUNT),
  windowMs: whole(MAX_WINDOW_MS),
  algorithm: z.enum(['sliding_window', 'gcra'], 'is sliding_window or gcra').optional(),
  burst: whole(MAX_AMOUNT).optional(),
})

/** Checks the cost of a call. */
export function parseCost(cost: number = 1): number {
  if (typeof cost === 'number' && Number.isInteger(cost) && cost >= 1 && cost <= MAX_AMOUNT) return cost
  throw createRowhouseError(
    'invalid_cost',
    `The cost of a call is a whole number from 1 to ${MAX_AMOUNT}; the given one is not.`,
  )
}

/** Checks whom a call counts for. */
export function parseSubject(subject: string = ''): string {
  if (typeof subject === 'string' && subject.length <= 200 && !subject.includes('\0')) return subject
  throw createRowhouseError('invalid_argument', 'The subject of a rate limit is a string of at most 200 characters.')
}

/** Finds out which limit is meant. */
export function parseRule({ name, windows }: RateLimitOptions): RateLimitRule {
  if (windows === undefined) {
    if (name !== undefined && typeof name !== 'string') throw invalidRateLimit('the name of a limit is a string')
    return { key: `name ${name ?? 'requests'}`, name: name ?? 'requests', windows: null }
  }
  if (name !== undefined) throw invalidRateLimit('give either name or windows')
  const known = RULES.get(windows)
  if (known !== undefined) return known
  const rule = parseWindows(windows)
  if (Object.isFrozen(windows)) RULES.set(windows, rule)
  return rule
}

/** Checks windows and brings them into the order of the database. */
export function parseWindows(windows: readonly RateLimitWindow[]): RateLimitRule {
  if (!Array.isArray(windows) || windows.length < 1 || windows.length > 4) {
    throw invalidRateLimit('a limit has one to four windows')
  }
  const parsed = windows.map(parseWindow).sort((one, other) => one.length - other.length)
  if (parsed.some(({ length }, index) => length === parsed[index - 1]?.length)) {
    throw invalidRateLimit('two windows have the same algorithm and length')
  }
  return {
    key: parsed.map(({ limit, length, burst }) => `${limit} ${length} ${burst}`).join(' '),
    name: null,
    windows: {
      limits: parsed.map(({ limit }) => limit),
      lengths: parsed.map(({ length }) => length),
      bursts: parsed.map(({ burst }) => burst),
    },
  }
}

function parseWindow(window: RateLimitWindow): { limit: number; length: number; burst: number } {
  const { data, error } = windowSchema.safeParse(window)
  if (data === undefined) throw invalidRateLimit(describeIssue(error))
  const { limit, windowMs, algorithm, burst = limit } = data
  if (algorithm === 'gcra') {
    if (burst > limit) throw invalidRateLimit('burst is at most limit')
    return { limit, length: -windowMs, burst }
  }
  if (data.burst !== undefined) throw invalidRateLimit('burst belongs to the algorithm gcra')
  return { limit, length: windowMs, burst: limit }
}

function describeIssue(error: z.ZodError): string {
  const [issue] = error.issues
  const path = issue?.path.join('.') ?? ''
  return issue?.code === 'unrecognized_keys'
    ? `a window has no ${issue.keys.join(', ')}`
    : `${path} ${issue?.message}`.trim()
}

function invalidRateLimit(problem: string): Error {
  return createRowhouseError('invalid_rate_limit', `Not a rate limit: ${problem}.`)
}
