/** How one window stands after a decision. */
export interface RateLimitWindowState {
  readonly limit: number
  readonly windowMs: number
  readonly algorithm: 'sliding_window' | 'gcra'
  /** How much is left now. */
  readonly remaining: number
  /** Milliseconds until the whole limit is available again, if nothing else is used. */
  readonly resetMs: number
}

/** The answer to one call. All times are of the database's clock. */
export interface RateLimitResult {
  /** Whether the call is admitted by every window. A call that isn't has used up nothing. */
  readonly allowed: boolean
  /** The limit of the window that decides: the one that denies longest, else the one with the least left. */
  readonly limit: number
  /** How much is left in that window. */
  readonly remaining: number
  /** When the whole limit of that window is available again. */
  readonly reset: Date
  /** The same as milliseconds from now, for clients whose clock differs. */
  readonly resetMs: number
  /** Milliseconds until the same call would be admitted, if nothing else is used; 0 when it is. */
  readonly retryAfterMs: number
  /** Every window of the limit. */
  readonly windows: readonly RateLimitWindowState[]
}

/** What the database says of a window: limit, length (negative: gcra), remaining, resetMs, retryAfterMs. */
export type WindowTuple = readonly [
  limit: number,
  length: number,
  remaining: number,
  resetMs: number,
  retryAfterMs: number,
]

/** The decision on equal calls of one subject. */
export interface RateLimitDecision {
  readonly cost: number
  /** How many of the calls are admitted; null when the cost is above a limit. */
  readonly admitted: number | null
  /** Milliseconds since 1970, by the database's clock. */
  readonly decidedAt: number
  /** After all admitted calls. */
  readonly windows: readonly WindowTuple[]
}

/** The answer to the call at `index` of equal calls that were decided together: the first ones are admitted. */
export function resultOfCall(
  { cost, admitted, decidedAt, windows }: RateLimitDecision,
  index: number,
): RateLimitResult {
  const allowed = index < (admitted ?? 0)
  // What admitted calls behind this one used was still there after this one.
  const later = allowed ? (admitted! - 1 - index) * cost : 0
  return makeResult(
    allowed,
    decidedAt,
    windows.map((window) => (later === 0 ? window : beforeLater(window, later))),
  )
}

/** The answer to a call that only looks. */
export function resultOfLook({ decidedAt, windows }: RateLimitDecision): RateLimitResult {
  return makeResult(
    windows.every(([, , , , retryAfterMs]) => retryAfterMs === 0),
    decidedAt,
    windows,
  )
}

function beforeLater([limit, length, remaining, resetMs, retryAfterMs]: WindowTuple, later: number): WindowTuple {
  // The pace of gcra makes a window whole again earlier by what was not used yet; in a sliding window all leave at once.
  const earlier = length < 0 ? Math.ceil((later * -length) / limit) : 0
  return [limit, length, remaining + later, Math.max(resetMs - earlier, 0), retryAfterMs]
}

function makeResult(allowed: boolean, decidedAt: number, windows: readonly WindowTuple[]): RateLimitResult {
  let decisive = windows[0]!
  for (const window of windows) {
    const more = allowed ? window[2] < decisive[2] : window[4] > decisive[4]
    if (more) decisive = window
  }
  const [limit, , remaining, resetMs, retryAfterMs] = decisive
  return {
    allowed,
    limit,
    remaining,
    reset: new Date(decidedAt + resetMs),
    resetMs,
    retryAfterMs: allowed ? 0 : retryAfterMs,
    windows: windows.map((window) => ({
      limit: window[0],
      windowMs: Math.abs(window[1]),
      algorithm: window[1] < 0 ? 'gcra' : 'sliding_window',
      remaining: window[2],
      resetMs: window[3],
    })),
  }
}
