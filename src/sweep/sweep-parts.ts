import { type Kysely, type RawBuilder, sql } from 'kysely'
import type { SweepPart } from './sweep.ts'
import { callSweep } from './sweep-in-batches.ts'

/** What runs the statements of a sweep. */
export interface SweepDatabases {
  /** As a tenant, each statement a transaction. */
  readonly tenant: (tenantId: string) => Kysely<any>
  /** As an operator. */
  readonly admin: Kysely<any>
}

/** Everything that ends by itself, each with the function that deletes a batch of it. */
export function sweepParts({ tenant, admin }: SweepDatabases): SweepPart[] {
  const asTenant = (
    name: SweepPart['name'],
    batchSize: number,
    call: (limit: number) => RawBuilder<unknown>,
  ): SweepPart => ({
    name,
    batchSize,
    sweep: (tenantId, limit) => callSweep(tenant(tenantId), call(limit)),
  })
  return [
    // With their messages, so fewer of them.
    asTenant('sessions', 100, (limit) => sql`rowhouse.sweep_sessions(${limit})`),
    asTenant('values', 1000, (limit) => sql`rowhouse.sweep_state(${limit})`),
    asTenant('locks', 1000, (limit) => sql`rowhouse.sweep_locks(${limit})`),
    asTenant('channelRows', 1000, (limit) => sql`rowhouse.sweep_channels(${limit})`),
    {
      name: 'rateLimitCounters',
      batchSize: 1000,
      sweep: (tenantId, limit) => callSweep(admin, sql`rowhouse.sweep_rate_limits(${tenantId}, ${limit})`),
    },
    asTenant('queueRequests', 1000, (limit) => sql`rowhouse.sweep_queue_requests(${limit})`),
    {
      name: 'usageHours',
      // Made in one go, and again when events come late.
      once: true,
      batchSize: 0,
      sweep: (tenantId) => callSweep(tenant(tenantId), sql`rowhouse.rollup_usage()`),
    },
    asTenant('usageEvents', 1000, (limit) => sql`rowhouse.sweep_usage_events(${limit})`),
    asTenant('events', 1000, (limit) => sql`rowhouse.sweep_events(${limit})`),
    asTenant('jobs', 1000, (limit) => sql`rowhouse.sweep_jobs(${limit})`),
  ]
}
