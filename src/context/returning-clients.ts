/** A clean-up takes some 50 microseconds. After this nobody waits for the client any more, */
const LATE_MS = 20
/** and after this it is destroyed. */
const LOST_MS = 10_000
/** One timer looks after all clients: one for each transaction would cost as much as sending it. */
const LOOK_EVERY_MS = 50

interface ReturningClient {
  readonly since: number
  /** Resolves when the client is back in the pool, or late. */
  readonly settled: Promise<void>
  readonly settle: () => void
  readonly destroy: () => void
}

/** Clients that come back to the pool as soon as they are clean. */
export class ReturningClients {
  readonly #clients = new Set<ReturningClient>()
  /** Those that nobody waits for yet, the first first. */
  readonly #unclaimed = new Set<ReturningClient>()
  #timer: NodeJS.Timeout | undefined
  /** Somebody waits until all are back. */
  #allBack: PromiseWithResolvers<void> | undefined

  /**
   * Calls `giveBack` when the client has been cleaned, and `destroy`, which must end the cleaning, when that takes too
   * long. Resolves when the client is back, or late.
   */
  add(cleaned: Promise<void>, giveBack: () => void, destroy: () => void): Promise<void> {
    let settle = () => {}
    const settled = new Promise<void>((resolve) => {
      settle = resolve
    })
    const client = { since: performance.now(), settled, settle, destroy }
    this.#clients.add(client)
    this.#unclaimed.add(client)
    void cleaned.then(() => {
      this.#clients.delete(client)
      this.#unclaimed.delete(client)
      giveBack()
      settle()
      if (this.#clients.size === 0) this.#allBack?.resolve()
    })
    this.#timer ??= setTimeout(() => this.#look(), LOOK_EVERY_MS).unref()
    return settled
  }

  /** The next client that nobody waits for, if there is one. */
  next(): Promise<void> | undefined {
    for (const client of this.#unclaimed) {
      this.#unclaimed.delete(client)
      return client.settled
    }
    return undefined
  }

  /** Resolves when all are back in the pool, also those that are late. */
  allBack(): Promise<void> {
    if (this.#clients.size === 0) return Promise.resolve()
    this.#allBack ??= Promise.withResolvers<void>()
    return this.#allBack.promise
  }

  #look(): void {
    const now = performance.now()
    for (const client of this.#clients) {
      if (now - client.since < LATE_MS) break
      this.#unclaimed.delete(client)
      client.settle()
      if (now - client.since >= LOST_MS) client.destroy()
    }
    this.#timer = this.#clients.size === 0 ? undefined : setTimeout(() => this.#look(), LOOK_EVERY_MS).unref()
  }
}
