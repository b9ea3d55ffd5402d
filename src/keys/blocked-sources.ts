/** Sources that are remembered: a flood from many of them doesn't fill the memory. */
const SOURCES = 10_000

/**
 * Sources of refused keys that the database told to wait: until then this process need not ask it. Which ones those are,
 * it counts for all processes.
 */
export class BlockedSources {
  readonly #until = new Map<string, number>()

  /** Milliseconds until this source may try again; 0 when it may now. */
  waitFor(source: string, now = Date.now()): number {
    const until = this.#until.get(source)
    if (until === undefined) return 0
    if (until > now) return until - now
    this.#until.delete(source)
    return 0
  }

  block(source: string, waitMs: number, now = Date.now()): void {
    // Newest last, so the first one is the oldest.
    this.#until.delete(source)
    if (this.#until.size >= SOURCES) this.#until.delete(this.#until.keys().next().value!)
    this.#until.set(source, now + waitMs)
  }
}
