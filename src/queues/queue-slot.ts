import { createRowhouseError } from '../errors.ts'
import type { QueueStatements } from './queue-statements.ts'

export interface QueueSlotParts {
  readonly statements: QueueStatements
  readonly ticket: string
  readonly leaseMs: number
  readonly expiresAt: Date
  /** Told when a slot was given back. */
  readonly freed: () => void
}

/** A slot that this process holds until its lease ends. */
export class QueueSlot implements AsyncDisposable {
  /** The id of the request that got it. */
  readonly ticket: string
  readonly #statements: QueueStatements
  readonly #leaseMs: number
  readonly #freed: () => void
  readonly #lost = new AbortController()
  #expiresAt: Date

  /** @internal */
  constructor({ statements, ticket, leaseMs, expiresAt, freed }: QueueSlotParts) {
    this.ticket = ticket
    this.#statements = statements
    this.#leaseMs = leaseMs
    this.#expiresAt = expiresAt
    this.#freed = freed
  }

  /** When the lease ends, by the clock of the database. */
  get expiresAt(): Date {
    return this.#expiresAt
  }

  /** Aborted when the slot is known to be lost; for what runs in it. */
  get signal(): AbortSignal {
    return this.#lost.signal
  }

  /**
   * Begins the lease anew. Fails with `slot_lost` when it had ended.
   *
   * SQL: `select * from rowhouse.renew_tickets('gpu', '{...}')`
   */
  async renew(): Promise<void> {
    const [state] = await this.#statements.renew([this.ticket])
    if (state?.status !== 'running') throw this.lose()
    this.#expiresAt = state.expiresAt!
  }

  /**
   * Gives the slot back; the next request gets it.
   *
   * SQL: `select rowhouse.leave_queue('gpu', '...')`
   *
   * @returns False when it had been lost.
   */
  async release(): Promise<boolean> {
    const was = await this.#statements.leave(this.ticket)
    this.#freed()
    return was === 'running'
  }

  /** Renews the lease three times in its length, until that is stopped, or the slot is lost. @internal */
  keepAlive(): () => void {
    let heldUntil = performance.now() + this.#leaseMs
    const renew = async () => {
      const sent = performance.now()
      try {
        await this.renew()
        heldUntil = sent + this.#leaseMs
      } catch {
        // A connection that failed is no loss yet: there are two more attempts before the lease ends.
        if (performance.now() >= heldUntil) this.lose()
      }
      if (this.signal.aborted) clearInterval(timer)
    }
    const timer = setInterval(() => void renew(), this.#leaseMs / 3)
    timer.unref()
    return () => clearInterval(timer)
  }

  /** Aborts the signal. @internal */
  lose(): Error {
    const error = createRowhouseError('slot_lost', `The slot of the queue "${this.#statements.queue}" is held no more.`)
    if (!this.#lost.signal.aborted) this.#lost.abort(error)
    return error
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.release()
  }
}
