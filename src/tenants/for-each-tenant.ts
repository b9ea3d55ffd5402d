import * as z from 'zod'
import { invalidOptions } from '../context/context-options.ts'
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

/** Tenants a page of the registry. */
const PAGE = 500

/** Runs `fn` for each active tenant, in a transaction of its own, and returns the results in the order of ids. */
export async function forEachTenant<DB, T>(
  tenants: Tenants,
  run: (tenantId: string, fn: TenantCallback<DB, T>) => Promise<T>,
  fn: TenantCallback<DB, T>,
  options: ForEachTenantOptions = {},
): Promise<TenantVisit<T>[]> {
  const { success, data, error } = forEachOptions.safeParse(options)
  if (!success) throw invalidOptions(error)
  const { concurrency = 1, tier } = data
  const visits: TenantVisit<T>[] = []
  const status: TenantStatus = 'active'
  for (let after: string | undefined; ; ) {
    const page = await tenants.list({ status, tier, after, limit: PAGE })
    for (let start = 0; start < page.length; start += concurrency) {
      const group = page.slice(start, start + concurrency)
      const settled = await Promise.allSettled(group.map(({ id }) => run(id, fn)))
      for (const [index, outcome] of settled.entries()) {
        if (outcome.status === 'rejected') throw outcome.reason
        visits.push({ tenantId: group[index]!.id, result: outcome.value })
      }
    }
    if (page.length < PAGE) return visits
    after = page.at(-1)!.id
  }
}
