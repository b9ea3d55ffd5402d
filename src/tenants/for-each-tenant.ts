import * as z from 'zod'
import { parseOptions } from '../context/context-options.ts'
import type { TenantCallback } from '../context/with-tenant.ts'
import type { TenantStatus } from './tenant.ts'
import type { Tenants } from './tenants.ts'

export interface ForEachTenantOptions {
  /** Tenants worked on at the same time, each on a connection of the pool. Default 1. */
  readonly concurrency?: number | undefined
  /** Only tenants of this tier. */
  readonly tier?: string | undefined
}

/** What `fn` returned for one tenant. */
export interface TenantVisit<T> {
  readonly tenantId: string
  readonly result: T
}

const forEachOptions = z.strictObject({ concurrency: z.int().min(1).max(1000).optional(), tier: z.string().optional() })

/** Of tenants that are billed: not of those that are erased, imported or moved. */
export const BILLED_STATUSES: readonly TenantStatus[] = ['active', 'relocating', 'suspended', 'inactive']

/** The latter works again in a moment: it waits for its rows. */
const WORKING_STATUSES: readonly TenantStatus[] = ['active', 'relocating']

/** Runs `fn` for each active tenant, in a transaction of its own, and returns the results in the order of ids. */
export function forEachTenant<DB, T>(
  tenants: Tenants,
  run: (tenantId: string, fn: TenantCallback<DB, T>) => Promise<T>,
  fn: TenantCallback<DB, T>,
  options?: ForEachTenantOptions,
): Promise<TenantVisit<T>[]> {
  return visitTenants(tenants, WORKING_STATUSES, (tenantId) => run(tenantId, fn), options)
}

/** Calls `fn` with each tenant of these statuses, and returns the results in the order of ids. */
export async function visitTenants<T>(
  tenants: Tenants,
  statuses: readonly TenantStatus[],
  fn: (tenantId: string) => Promise<T>,
  options: ForEachTenantOptions = {},
): Promise<TenantVisit<T>[]> {
  const { concurrency = 1, tier } = parseOptions(forEachOptions, options)
  const visits: TenantVisit<T>[] = []
  const visit = async (ids: readonly string[]) => {
    const settled = await Promise.allSettled(ids.map(fn))
    for (const [index, outcome] of settled.entries()) {
      if (outcome.status === 'rejected') throw outcome.reason
      visits.push({ tenantId: ids[index]!, result: outcome.value })
    }
  }
  let group: string[] = []
  for await (const tenant of tenants.all({ tier })) {
    if (!statuses.includes(tenant.status)) continue
    group.push(tenant.id)
    if (group.length < concurrency) continue
    await visit(group)
    group = []
  }
  await visit(group)
  return visits
}
