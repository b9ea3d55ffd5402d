import * as z from 'zod'
import { parseOptions } from '../context/context-options.ts'
import { TenantInactiveError, TenantNotFoundError, TenantSuspendedError } from '../errors.ts'

/** What a sweep removed of one tenant, and brought up to date. */
export interface SweptTenant {
  readonly tenantId: string
  /** Sessions that expired, or that nobody used for as long as the tenant keeps them; with their messages. */
  readonly sessions: number
  /** Values of `state` that expired. */
  readonly values: number
  /** Locks whose lease ended more than a day ago. */
  readonly locks: number
  /** Of channels: messages that were kept long enough, members that were not renewed, channels that nobody uses. */
  readonly channelRows: number
  /** Counters of rate limits that count nothing any more. */
  readonly rateLimitCounters: number
  /** Requests in queues that nobody renewed in time. */
  readonly queueRequests: number
  /** Hours of usage whose rollups were brought up to date. */
  readonly usageHours: number
  /** Usage events that are older than the tenant keeps them; their rollups stay. */
  readonly usageEvents: number
  /** Analytics events that are older than the tenant keeps them. */
  readonly events: number
  /** Jobs that were finished for longer than the tenant keeps them, with their steps. */
  readonly jobs: number
}

export interface SweepOptions {
  /** Only this tenant. */
  readonly tenantId?: string | undefined
  /** Told after each tenant: for progress. */
  readonly onTenant?: ((swept: SweptTenant) => void) | undefined
}

/** What a sweep does to one tenant, each part in small transactions of its own. */
export interface TenantSweeper {
  sessions(tenantId: string): Promise<number>
  values(tenantId: string): Promise<number>
  locks(tenantId: string): Promise<number>
  channelRows(tenantId: string): Promise<number>
  rateLimitCounters(tenantId: string): Promise<number>
  queueRequests(tenantId: string): Promise<number>
  usageHours(tenantId: string): Promise<number>
  usageEvents(tenantId: string): Promise<number>
  events(tenantId: string): Promise<number>
  jobs(tenantId: string): Promise<number>
}

const sweepOptions = z.strictObject({
  tenantId: z.string().optional(),
  onTenant: z.custom<(swept: SweptTenant) => void>((value) => typeof value === 'function', 'is no function').optional(),
})

/** Sweeps the tenants one after another; one that was suspended or erased meanwhile is left out. */
export async function sweepTenants(
  activeTenants: () => AsyncIterable<{ readonly id: string }>,
  sweeper: TenantSweeper,
  options: SweepOptions = {},
): Promise<SweptTenant[]> {
  const { tenantId, onTenant } = parseOptions(sweepOptions, options)
  if (tenantId !== undefined) {
    const swept = await sweepTenant(sweeper, tenantId)
    onTenant?.(swept)
    return [swept]
  }
  const all: SweptTenant[] = []
  for await (const { id } of activeTenants()) {
    const swept = await sweepTenant(sweeper, id).catch((reason) => {
      if (mayNotWork(reason)) return undefined
      throw reason
    })
    if (swept === undefined) continue
    all.push(swept)
    onTenant?.(swept)
  }
  return all
}

async function sweepTenant(sweeper: TenantSweeper, tenantId: string): Promise<SweptTenant> {
  return {
    tenantId,
    sessions: await sweeper.sessions(tenantId),
    values: await sweeper.values(tenantId),
    locks: await sweeper.locks(tenantId),
    channelRows: await sweeper.channelRows(tenantId),
    rateLimitCounters: await sweeper.rateLimitCounters(tenantId),
    queueRequests: await sweeper.queueRequests(tenantId),
    usageHours: await sweeper.usageHours(tenantId),
    usageEvents: await sweeper.usageEvents(tenantId),
    events: await sweeper.events(tenantId),
    jobs: await sweeper.jobs(tenantId),
  }
}

function mayNotWork(reason: unknown): boolean {
  return [TenantSuspendedError, TenantInactiveError, TenantNotFoundError].some((known) => reason instanceof known)
}
