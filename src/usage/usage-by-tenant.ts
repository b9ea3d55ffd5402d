import { type Kysely, sql } from 'kysely'
import type { TenantCallback } from '../context/with-tenant.ts'
import type { ForEachTenantOptions, TenantVisit } from '../tenants/for-each-tenant.ts'
import type { TenantUsageLine, UsageReportOptions } from './usage-types.ts'

/** Usage of all tenants, for operators. No role sees two tenants at once: they are visited one after another. */
export interface UsageOfTenants {
  /**
   * The usage of every active tenant; by default one line for each tenant and currency.
   *
   * SQL: `select * from rowhouse.usage_report(...)`, as each tenant
   *
   * @example
   * ```ts
   * for (const { tenantId, cost, currency } of await rowhouse.usage.byTenant()) console.log(tenantId, cost, currency)
   * ```
   */
  byTenant(options?: UsageReportOptions & ForEachTenantOptions): Promise<TenantUsageLine[]>
  /**
   * Brings the rollups of every active tenant up to date, for example once an hour, and returns how many hours were
   * made. Reports are exact without it, and slower the more has not been rolled up.
   *
   * SQL: `select rowhouse.rollup_usage()`, as each tenant
   */
  rollup(options?: ForEachTenantOptions): Promise<number>
}

type Visit = <T>(fn: TenantCallback<any, T>, options?: ForEachTenantOptions) => Promise<TenantVisit<T>[]>

export function createUsageOfTenants(visit: Visit): UsageOfTenants {
  return {
    async byTenant({ from, to, by = [], ...options } = {}) {
      const visits = await visit((_, tenant) => tenant.usage.report({ from, to, by }), options)
      return visits.flatMap(({ tenantId, result }) => result.map((line) => ({ tenantId, ...line })))
    },
    async rollup(options) {
      const visits = await visit(rollupUsage, options)
      return visits.reduce((sum, { result }) => sum + result, 0)
    },
  }
}

/** Brings the rollups of the tenant of the transaction up to date; returns how many hours were made. */
export async function rollupUsage(db: Kysely<any>): Promise<number> {
  const { rows } = await sql<{ hours: number }>`select rowhouse.rollup_usage() as hours`.execute(db)
  return rows[0]!.hours
}
