/**
 * Terms:
 * - **tenant**: a customer of your application, whose rows nobody else may see; named by a tenant id.
 * - **context**: who a transaction runs as: the role, the tenant, and optionally the user and the request.
 * - **protected table**: a table that `rowhouse.protect_table` put under row-level security.
 * - **operator**: who manages tenants, as the role `rowhouse_admin`; sees one tenant at a time.
 *
 * @module
 */
export { type ContextOptions } from './context/context-options.ts'
export { getCurrentTenant } from './context/current-tenant.ts'
export type { RetryOptions } from './context/retry.ts'
export type { ConnectionOptions, RowhouseOptions } from './context/rowhouse-options.ts'
export { TenantContext } from './context/tenant-context.ts'
export type { TenantExecutor } from './context/tenant-executor.ts'
export type { QueryOptions, TenantQuery } from './context/tenant-query.ts'
export type { TenantCallback, WithTenantOptions } from './context/with-tenant.ts'
export * from './errors.ts'
export { createRowhouse, type Rowhouse } from './rowhouse.ts'
