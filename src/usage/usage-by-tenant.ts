import type { ForEachTenantOptions, TenantVisit } from '../tenants/for-each-tenant.ts'
import type { Usage } from './usage.ts'
import type { TenantUsageLine, UsageReportOptions } from './usage-types.ts'

/**
 * Usage of all tenants, for operators: active, suspended and inactive ones. No role sees two tenants at once: they are
 * visited one after another.
 */
export interface UsageOfTenants {
  /**
   * The usage of every tenant; by default one line for each tenant and currency.
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
   * Brings the rollups of every tenant up to date, for example once an hour, and returns of how many hours something was
   * made. Reports are exact without it, and slower the more has not been rolled up.
   *
   * SQL: `select rowhouse.rollup_usage()`, as each tenant
   */
  rollup(options?: ForEachTenantOptions): Promise<number>
}

type Visit = <T>(fn: (usage: Usage) => Promise<T>, options?: ForEachTenantOptions) => Promise<TenantVisit<T>[]>

export function createUsageOfTenants(visit: Visit): UsageOfTenants {
  return {
    async byTenant({ from, to, by = [], ...options } = {}) {
      const visits = await visit((usage) => usage.report({ from, to, by }), options)
      return visits.flatMap(({ tenantId, result }) => result.map((line) => ({ tenantId, ...line })))
    },
    async rollup(options) {
      const visits = await visit((usage) => usage.rollup(), options)
      return visits.reduce((sum, { result }) => sum + result, 0)
    },
  }
}
