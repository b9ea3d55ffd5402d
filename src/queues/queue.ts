import { randomUUID } from 'node:crypto'
import { sql } from 'kysely'
import type { TenantExecutor } from '../context/tenant-executor.ts'
import { createRowhouseError } from '../errors.ts'
import { type ParsedQueueRequest, parseQueueName, parseQueueRequest, parseTicket } from './parse-queue.ts'
import type { QueueSlot } from './queue-slot.ts'
import { QueueStatements } from './queue-statements.ts'
import { QueueTicket } from './queue-ticket.ts'
import type { QueuedWork, QueuePosition, QueueRequest, QueueRunOptions, QueueUtilization } from './queue-types.ts'
import type { QueueWaiters } from './queue-waiters.ts'

/**
 * A queue for slots that all tenants share, such as the calls that a model server takes at the same time.
 *
 * While all slots are busy, tenants that wait get the next ones in turn, in proportion to the weight of their tier: a
 * tenant with a thousand requests does not hold up one with a single request, and nobody starves. Requests of one tenant
 * get their slots in the order in which they came. A tenant never holds more slots than its share, and its quotas of
 * slots, allow.
 *
 * The queue is in the database, so it holds for all processes and outlives them: a process that dies loses its slots when
 * their leases end, and its places a little later. Slots are announced by NOTIFY; where that doesn't arrive, processes
 * ask several times a second. No connection is in use while a request waits or works.
 *
 * Errors of all calls: `RowhouseError` of the codes `unknown_queue`, `invalid_queue_request`, and those of the tenant.
 *
 * @example
 * ```ts
 * await rowhouse.queues.define('gpu', { slots: 8 })
 *
 * const text = await acme.queue('gpu').run(
 *   async ({ signal }) => (await complete('Summarize this.', { signal })).text,
 *   { deadlineMs: 20_000 },
 * )
 * ```
 */
export class Queue {
  /** Its name. */
  readonly name: string
  readonly #executor: TenantExecutor
  readonly #statements: QueueStatements
  readonly #waiters: QueueWaiters | undefined
  readonly #isInTransaction: () => boolean

  /** @internal */
  constructor(
    executor: TenantExecutor,
    name: string = 'default',
    waiters: QueueWaiters | undefined,
    isInTransaction: () => boolean,
  ) {
    this.name = parseQueueName(name)
    this.#executor = executor
    this.#statements = new QueueStatements(executor, this.name)
    this.#waiters = waiters
    this.#isInTransaction = isInTransaction
  }

  /**
   * Waits for a slot, runs `fn` in it, and gives it back. The lease is renewed while `fn` runs; the signal of the work
   * aborts when it could not be, or when the caller gives up.
   *
   * Errors: {@link QueueTimeoutError}; `queue_full`; what `fn` throws; the reason of the signal; `invalid_argument` inside
   * `withTenant`, whose transaction would stay open.
   *
   * SQL: `select * from rowhouse.join_queue('gpu', '...', 1, 20000, 30000, 15000)`, `renew_tickets`, `leave_queue`
   */
  async run<T>(fn: (work: QueuedWork) => T | Promise<T>, options: QueueRunOptions = {}): Promise<T> {
    const slot = await this.acquire(options)
    const { signal } = options
    const stop = slot.keepAlive()
    try {
      return await fn({
        ticket: slot.ticket,
        signal: signal === undefined ? slot.signal : AbortSignal.any([signal, slot.signal]),
      })
    } finally {
      stop()
      // What the work returned or threw matters more; a slot that can't be given back now ends with its lease.
      await slot.release().catch(() => {})
    }
  }

  /**
   * Waits for a slot, which is then held until it is released, or its lease ends without `renew`.
   *
   * @example
   * ```ts
   * await using slot = await acme.queue('gpu').acquire({ leaseMs: 60_000 })
   * await slot.renew()
   * ```
   */
  async acquire({ signal, ...request }: QueueRunOptions = {}): Promise<QueueSlot> {
    signal?.throwIfAborted()
    const ticket = await this.enqueue(request)
    return ticket.wait({ signal })
  }

  /**
   * Asks for a slot without waiting for it. The ticket keeps its place for `keepMs`, and longer while somebody waits with
   * it or renews it: this process, or another one that knows its id.
   *
   * SQL: `select * from rowhouse.join_queue('gpu', '...', 1, 30000, 30000, 15000)`
   *
   * Errors: `queue_full`.
   *
   * @example
   * ```ts
   * const ticket = await acme.queue('gpu').enqueue({ deadlineMs: 600_000 })
   * const { place, estimatedWaitMs } = await ticket.position()
   * const slot = await ticket.wait()
   * ```
   */
  async enqueue(request: QueueRequest = {}): Promise<QueueTicket> {
    const waiters = this.#outsideTransaction()
    const parsed = parseQueueRequest(request)
    const id = randomUUID()
    const sent = performance.now()
    const state = await this.#join(id, parsed)
    return new QueueTicket({
      id,
      statements: this.#statements,
      waiters,
      request: parsed,
      deadline: sent + parsed.deadlineMs,
      state,
      joinedAt: sent,
    })
  }

  /** The request of this id, which this or another process made; for `renew` and `wait`. */
  ticket(id: string, { leaseMs, keepMs }: Pick<QueueRequest, 'leaseMs' | 'keepMs'> = {}): QueueTicket {
    return new QueueTicket({
      id: parseTicket(id),
      statements: this.#statements,
      waiters: this.#outsideTransaction(),
      request: parseQueueRequest({ leaseMs, keepMs }),
      deadline: undefined,
      state: undefined,
    })
  }

  /**
   * How a request of the tenant stands.
   *
   * SQL: `select * from rowhouse.queue_position('gpu', '...')`
   */
  position(ticket: string): Promise<QueuePosition> {
    return this.#statements.position(parseTicket(ticket))
  }

  /**
   * How the tenant stands: its share, the slots that it holds, its requests that wait.
   *
   * SQL: `select * from rowhouse.queue_utilization('gpu')`
   */
  async utilization(): Promise<QueueUtilization> {
    const { rows } = await sql<Omit<QueueUtilization, 'maxRunning'> & { maxRunning: number | null }>`
      select weight, max_running as "maxRunning", max_waiting as "maxWaiting", running, waiting
        from rowhouse.queue_utilization(${this.name})
    `.execute(this.#executor.db)
    const { maxRunning, ...standing } = rows[0]!
    return { ...standing, maxRunning: maxRunning ?? undefined }
  }

  /** The answer may be lost; the same ticket asks for the same request. */
  async #join(id: string, request: ParsedQueueRequest) {
    try {
      return await this.#statements.join(id, request)
    } catch (error) {
      if ((error as { code?: unknown }).code !== 'connection_failed') throw error
      return this.#statements.join(id, request)
    }
  }

  #outsideTransaction(): QueueWaiters {
    if (this.#waiters !== undefined && !this.#isInTransaction()) return this.#waiters
    throw createRowhouseError(
      'invalid_argument',
      'To wait in a queue inside withTenant would keep its transaction open.',
      {
        hint: 'Call rowhouse.tenant(id).queue(name) outside of withTenant.',
      },
    )
  }
}
