import { sql } from 'kysely'
import type { AdminExecutor } from '../context/admin-executor.ts'
import type { QueueLoad, QueueShare, TenantQueueLoad } from './queue-types.ts'

/** Queues for slots that tenants share, for operators. */
export interface Queues {
  /**
   * Defines a queue, or changes how many slots it has; 0 stops it. A queue `default` with 64 slots is there already.
   *
   * SQL: `select rowhouse.define_queue('gpu', 8)`
   *
   * Errors: `invalid_queue_request`.
   *
   * @example
   * ```ts
   * await rowhouse.queues.define('gpu', { slots: 8 })
   * await rowhouse.queues.setShare('gpu', 'enterprise', { weight: 4, maxRunning: 6 })
   * ```
   */
  define(name: string, options: { readonly slots: number }): Promise<void>
  /**
   * Removes a queue, with all that wait in it.
   *
   * SQL: `select rowhouse.drop_queue('gpu')`
   */
  drop(name: string): Promise<void>
  /**
   * Sets the share of the tenants of a tier in a queue, for requests from now on; `*` stands for all queues, or all
   * tiers, that have none. As installed, free tenants have the weight 1, starter 2, professional 4, enterprise 8.
   *
   * SQL: `select rowhouse.set_queue_share('gpu', 'enterprise', 4, 6, 10000)`
   *
   * Errors: `unknown_queue`, `invalid_queue_request`.
   */
  setShare(queue: string, tier: string, share: QueueShare): Promise<void>
  /**
   * How busy all queues are, or one of them, as a whole and for each tenant.
   *
   * SQL: `select * from rowhouse.queue_load('gpu')`
   */
  utilization(queue?: string): Promise<QueueLoad[]>
}

interface LoadRow {
  readonly queue: string
  readonly slots: number
  readonly tenantId: string | null
  readonly weight: number
  readonly maxRunning: number | null
  readonly running: number
  readonly waiting: number
}

export function createQueues({ db }: AdminExecutor): Queues {
  return {
    async define(name, { slots }) {
      await sql`select rowhouse.define_queue(${name}, ${slots})`.execute(db)
    },
    async drop(name) {
      await sql`select rowhouse.drop_queue(${name})`.execute(db)
    },
    async setShare(queue, tier, { weight = 1, maxRunning = null, maxWaiting = 10_000 }) {
      await sql`select rowhouse.set_queue_share(${queue}, ${tier}, ${weight}, ${maxRunning}, ${maxWaiting})`.execute(db)
    },
    async utilization(queue) {
      const { rows } = await sql<LoadRow>`
        select queue, slots, tenant_id as "tenantId", weight, max_running as "maxRunning", running, waiting
          from rowhouse.queue_load(${queue ?? null})
      `.execute(db)
      return [...Map.groupBy(rows, (row) => row.queue)].map(([name, ofQueue]) => toLoad(name, ofQueue))
    },
  }
}

function toLoad(queue: string, rows: readonly LoadRow[]): QueueLoad {
  const { slots } = rows[0]!
  const tenants: TenantQueueLoad[] = rows.flatMap(({ tenantId, weight, maxRunning, running, waiting }) =>
    tenantId === null ? [] : [{ tenantId, weight, maxRunning: maxRunning ?? undefined, running, waiting }],
  )
  const running = tenants.reduce((sum, tenant) => sum + tenant.running, 0)
  const waiting = tenants.reduce((sum, tenant) => sum + tenant.waiting, 0)
  return { queue, slots, running, waiting, utilization: slots === 0 ? 0 : running / slots, tenants }
}
