import * as z from 'zod'
import { parseOptions, parseTenantId } from '../context/context-options.ts'
import { TenantInactiveError, TenantNotFoundError, TenantSuspendedError } from '../errors.ts'
import { sweepUntilNothing } from './sweep-in-batches.ts'

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

/** What a batch of a sweep removed. */
export interface SweepProgress {
  readonly tenantId: string
  /** Of what. */
  readonly part: Exclude<keyof SweptTenant, 'tenantId'>
  /** How many in this batch, which is one transaction. */
  readonly removed: number
}

export interface SweepOptions {
  /** Only this tenant. */
  readonly tenantId?: string | undefined
  /** Told after each batch that removed something: for progress. */
  readonly onBatch?: ((progress: SweepProgress) => void) | undefined
  /** Told after each tenant: for progress. */
  readonly onTenant?: ((swept: SweptTenant) => void) | undefined
}

/** One kind of what ends by itself. */
export interface SweepPart {
  readonly name: SweepProgress['part']
  readonly batchSize: number
  /** Whether a single call does all of it. */
  readonly once?: boolean
  /** Removes at most so many of a tenant, in one transaction; returns how many. */
  sweep(tenantId: string, limit: number): Promise<number>
}

const callback = z.custom<(told: any) => void>((value) => typeof value === 'function', 'is no function').optional()
const sweepOptions = z.strictObject({ tenantId: z.string().optional(), onBatch: callback, onTenant: callback })

/** Sweeps the tenants one after another; one that was suspended or erased meanwhile is left out. */
export async function sweepTenants(
  activeTenants: () => AsyncIterable<{ readonly id: string }>,
  parts: readonly SweepPart[],
  options: SweepOptions = {},
): Promise<SweptTenant[]> {
  const { tenantId, onBatch, onTenant } = parseOptions(sweepOptions, options)
  if (tenantId !== undefined) {
    const swept = await sweepTenant(parts, parseTenantId(tenantId), onBatch)
    onTenant?.(swept)
    return [swept]
  }
  const all: SweptTenant[] = []
  for await (const { id } of activeTenants()) {
    const swept = await sweepTenant(parts, id, onBatch).catch((reason) => {
      if (mayNotWork(reason)) return undefined
      throw reason
    })
    if (swept === undefined) continue
    all.push(swept)
    onTenant?.(swept)
  }
  return all
}

async function sweepTenant(
  parts: readonly SweepPart[],
  tenantId: string,
  onBatch: SweepOptions['onBatch'],
): Promise<SweptTenant> {
  const swept: Record<string, number> = {}
  for (const part of parts) swept[part.name] = await sweepPart(part, tenantId, onBatch)
  return { tenantId, ...(swept as Omit<SweptTenant, 'tenantId'>) }
}

async function sweepPart(part: SweepPart, tenantId: string, onBatch: SweepOptions['onBatch']): Promise<number> {
  const sweepBatch = async () => {
    const removed = await part.sweep(tenantId, part.batchSize)
    if (removed > 0) onBatch?.({ tenantId, part: part.name, removed })
    return removed
  }
  return part.once === true ? sweepBatch() : sweepUntilNothing(sweepBatch)
}

function mayNotWork(reason: unknown): boolean {
  return [TenantSuspendedError, TenantInactiveError, TenantNotFoundError].some((known) => reason instanceof known)
}
