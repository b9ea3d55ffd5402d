import { createRowhouseError, QueueTimeoutError } from '../errors.ts'
import type { ParsedQueueRequest } from './parse-queue.ts'
import { QueueSlot } from './queue-slot.ts'
import type { QueueStatements, TicketState } from './queue-statements.ts'
import type { QueuePosition } from './queue-types.ts'
import type { QueueWaiters } from './queue-waiters.ts'

/** What `wait` takes. */
export interface WaitOptions {
  /** Ends the waiting, and gives the place back. */
  readonly signal?: AbortSignal | undefined
}

export interface QueueTicketParts {
  readonly id: string
  readonly statements: QueueStatements
  readonly waiters: QueueWaiters
  readonly request: ParsedQueueRequest
  /** By `performance.now()`; undefined when another process made the request. */
  readonly deadline: number | undefined
  readonly state: TicketState | undefined
  /** Before it was made, by `performance.now()`. */
  readonly joinedAt?: number | undefined
}

/** A request for a slot. Any process of the application can go on with it, by its id. */
export class QueueTicket {
  /** The id of the request: a UUID. */
  readonly id: string
  readonly #parts: QueueTicketParts
  #state: TicketState | undefined

  /** @internal */
  constructor(parts: QueueTicketParts) {
    this.id = parts.id
    this.#parts = parts
    this.#state = parts.state
  }

  /**
   * Waits for the slot; no connection is in use meanwhile.
   *
   * Errors: {@link QueueTimeoutError} when the deadline passes; `slot_lost` when nobody renewed the request for `keepMs`;
   * the reason of the signal.
   *
   * SQL: `select * from rowhouse.renew_tickets('gpu', '{...}')`, now and then; `listen rowhouse_queues`
   */
  async wait({ signal }: WaitOptions = {}): Promise<QueueSlot> {
    if (this.#state?.status === 'running') {
      const state = this.#state
      // Held only once by this ticket.
      this.#state = undefined
      return this.#slot(state)
    }
    const { waiters, statements, request, deadline, joinedAt } = this.#parts
    const ended = new AbortController()
    const timer =
      deadline === undefined
        ? undefined
        : setTimeout(() => ended.abort(DEADLINE), Math.max(0, deadline - performance.now()))
    const stop = signal === undefined ? ended.signal : AbortSignal.any([signal, ended.signal])
    try {
      const state = await waiters.wait(statements, this.id, request.keepMs, stop, joinedAt)
      if (state.status === 'running') return this.#slot(state)
      if (deadline === undefined || performance.now() >= deadline) throw this.#timeout(undefined)
      // When its tenant was suspended meanwhile, that is why; then this is refused.
      await statements.renew([this.id])
      throw createRowhouseError('slot_lost', `The place in the queue "${statements.queue}" was not kept.`)
    } catch (error) {
      if (error === DEADLINE) return await this.#atDeadline()
      if (signal?.aborted) await this.cancel().catch(() => {})
      throw error
    } finally {
      clearTimeout(timer)
    }
  }

  /**
   * How the request stands. Does not keep its place.
   *
   * SQL: `select * from rowhouse.queue_position('gpu', '...')`
   */
  position(): Promise<QueuePosition> {
    return this.#parts.statements.position(this.id)
  }

  /**
   * Keeps the place for `keepMs` more, or the slot for `leaseMs`, without waiting; tells which.
   *
   * SQL: `select * from rowhouse.renew_tickets('gpu', '{...}')`
   */
  async renew(): Promise<'waiting' | 'running' | 'gone'> {
    const [state] = await this.#parts.statements.renew([this.id])
    this.#state = state
    return state!.status
  }

  /**
   * Gives the place back, or the slot. False when it had neither any more.
   *
   * SQL: `select rowhouse.leave_queue('gpu', '...')`
   */
  async cancel(): Promise<boolean> {
    const was = await this.#parts.statements.leave(this.id)
    this.#parts.waiters.freed(this.#parts.statements.queue)
    return was !== 'gone'
  }

  async #atDeadline(): Promise<QueueSlot> {
    const { statements } = this.#parts
    const position = await statements.position(this.id).catch(() => undefined)
    if (position?.status === 'running') {
      const [state] = await statements.renew([this.id])
      if (state?.status === 'running') return this.#slot(state)
    }
    await this.cancel().catch(() => {})
    throw this.#timeout(position?.status === 'waiting' ? position : undefined)
  }

  #timeout(position: QueuePosition | undefined): QueueTimeoutError {
    const { queue } = this.#parts.statements
    const stood = position === undefined ? '' : `; ${position.ahead} requests were ahead of it`
    return new QueueTimeoutError(`There was no slot of the queue "${queue}" before the deadline${stood}.`, position)
  }

  #slot({ expiresAt }: TicketState): QueueSlot {
    const { statements, waiters, request } = this.#parts
    return new QueueSlot({
      statements,
      ticket: this.id,
      leaseMs: request.leaseMs,
      expiresAt: expiresAt!,
      freed: () => waiters.freed(statements.queue),
    })
  }
}

const DEADLINE = Symbol('deadline')
