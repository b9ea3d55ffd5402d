/** Refused attempts of one source within a minute, before its next ones are not looked at. */
const ATTEMPTS = 20
const WINDOW_MS = 60_000
/** Sources that are remembered: a flood from many of them doesn't fill the memory. */
const SOURCES = 10_000

interface Attempts {
  count: number
  readonly until: number
}

/**
 * Slows down who tries keys: counts refused attempts by source and claimed tenant, in this process. Whether the tenant
 * exists makes no difference, so that nobody learns it from the limit.
 */
export class GuessLimiter {
  readonly #attempts = new Map<string, Attempts>()

  /** Milliseconds until this source may try again; 0 when it may now. */
  waitFor(source: string, now = Date.now()): number {
    const attempts = this.#attempts.get(source)
    if (attempts === undefined || attempts.count < ATTEMPTS) return 0
    return Math.max(0, attempts.until - now)
  }

  /** Counts a refused attempt. */
  count(source: string, now = Date.now()): void {
    const attempts = this.#attempts.get(source)
    if (attempts !== undefined && attempts.until > now) {
      attempts.count++
      return
    }
    this.#attempts.delete(source)
    if (this.#attempts.size >= SOURCES) this.#forget(now)
    this.#attempts.set(source, { count: 1, until: now + WINDOW_MS })
  }

  /** What is over; and when that is not enough, the oldest tenth. */
  #forget(now: number): void {
    for (const [source, { until }] of this.#attempts) if (until <= now) this.#attempts.delete(source)
    let surplus = this.#attempts.size - SOURCES * 0.9
    for (const source of this.#attempts.keys()) {
      if (surplus-- <= 0) return
      this.#attempts.delete(source)
    }
  }
}
