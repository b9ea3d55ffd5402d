import { sql } from 'kysely'
import { runWithoutAmbientTenant } from '../context/current-tenant.ts'
import type { TenantExecutor } from '../context/tenant-executor.ts'
import type { ParsedQueueRequest } from './parse-queue.ts'
import type { QueuePosition } from './queue-types.ts'

/** How a ticket stands, as the database tells. */
export interface TicketState {
  readonly ticket: string
  readonly status: 'waiting' | 'running' | 'gone'
  readonly expiresAt: Date | null
}

/**
 * The statements on a queue, for one tenant. Each that decides something holds up the queue until its transaction ends,
 * so each is a transaction of its own, also when a callback of `withTenant` calls it.
 */
export class QueueStatements {
  readonly #executor: TenantExecutor
  readonly queue: string

  constructor(executor: TenantExecutor, queue: string) {
    this.#executor = executor
    this.queue = queue
  }

  get tenantId(): string {
    return this.#executor.tenantId
  }

  async join(ticket: string, { cost, deadlineMs, leaseMs, keepMs }: ParsedQueueRequest): Promise<TicketState> {
    const [state] = await this.#states(sql<TicketState>`
      select ticket, status, expires_at as "expiresAt"
        from rowhouse.join_queue(${this.queue}, ${ticket}, ${cost}, ${deadlineMs}, ${leaseMs}, ${keepMs})`)
    return state!
  }

  renew(tickets: readonly string[]): Promise<TicketState[]> {
    return this.#states(sql<TicketState>`
      select ticket, status, expires_at as "expiresAt" from rowhouse.renew_tickets(${this.queue}, ${[...tickets]}::uuid[])`)
  }

  async leave(ticket: string): Promise<TicketState['status']> {
    const { rows } = await runWithoutAmbientTenant(() =>
      sql<{ was: TicketState['status'] }>`select rowhouse.leave_queue(${this.queue}, ${ticket}) as was`.execute(
        this.#executor.db,
      ),
    )
    return rows[0]!.was
  }

  async position(ticket: string): Promise<QueuePosition> {
    const { rows } = await runWithoutAmbientTenant(() =>
      sql<{ status: TicketState['status']; place: number | null; ahead: number | null; wait: string | number | null }>`
        select status, place, ahead, estimated_wait_ms as wait from rowhouse.queue_position(${this.queue}, ${ticket})
      `.execute(this.#executor.db),
    )
    const { status, place, ahead, wait } = rows[0]!
    return {
      status,
      place: place ?? 0,
      ahead: ahead ?? 0,
      estimatedWaitMs: wait === null ? undefined : Number(wait),
    }
  }

  /** Wakes who listens, with the name of no ticket. */
  async announceNothing(): Promise<void> {
    await runWithoutAmbientTenant(() => sql`select pg_notify('rowhouse_queues', '')`.execute(this.#executor.db))
  }

  async #states(statement: ReturnType<typeof sql<TicketState>>): Promise<TicketState[]> {
    const { rows } = await runWithoutAmbientTenant(() => statement.execute(this.#executor.db))
    return rows
  }
}
