/**
 * Terms:
 * - **tenant**: a customer of your application, whose rows nobody else may see; named by a tenant id.
 * - **context**: who a transaction runs as: the role, the tenant, and optionally the user and the request.
 * - **protected table**: a table that `rowhouse.protect_table` put under row-level security.
 * - **operator**: who manages tenants, as the role `rowhouse_admin`; sees one tenant at a time.
 *
 * @module
 */
export type { AppendOptions, Audit, AuditQuery } from './audit/audit.ts'
export type { AuditBufferOptions, LostAuditEntries } from './audit/audit-buffer.ts'
export type { AuditEntry, AuditEntryInput } from './audit/audit-entry.ts'
export type {
  AuditFinding,
  AuditLog,
  SealedAudit,
  SealOptions,
  VerifiedAudit,
  VerifyOptions,
} from './audit/audit-log.ts'
export type { SigningKey } from './audit/signing.ts'
export type { ContextOptions } from './context/context-options.ts'
export { getCurrentTenant } from './context/current-tenant.ts'
export type { RetryOptions } from './context/retry.ts'
export type { ConnectionOptions, RowhouseOptions } from './context/rowhouse-options.ts'
export type { TenantChange, TenantChangeListener } from './context/tenant-changes.ts'
export { TenantContext } from './context/tenant-context.ts'
export type { TenantExecutor } from './context/tenant-executor.ts'
export type { QueryOptions, TenantQuery, TenantQueryResult } from './context/tenant-query.ts'
export type { TenantCallback, WithTenantOptions } from './context/with-tenant.ts'
export type {
  Collection,
  CollectionOptions,
  Collections,
  ElementType,
  IndexOptions,
  Metric,
} from './documents/collections.ts'
export type * from './documents/document-types.ts'
export type { Documents } from './documents/documents.ts'
export type { EmbedFunction } from './documents/embed.ts'
export * from './errors.ts'
export type {
  ApiKey,
  ApiKeyEnvironment,
  ApiKeys,
  AuthenticateOptions,
  IssueApiKeyOptions,
  IssuedApiKey,
} from './keys/api-keys.ts'
export type { MigrateOptions } from './migrate/migrate.ts'
export type * from './migrate/report.ts'
export type { ProtectOptions } from './protect/protect.ts'
export type * from './protect/protection-report.ts'
export type { TableName } from './protect/table-name.ts'
export { createRowhouse, type Rowhouse } from './rowhouse.ts'
export {
  type DeepPartial,
  type DefineSettingsOptions,
  defineSettings,
  type SettingsChange,
  type SettingsDefinition,
} from './settings/define-settings.ts'
export type { ChangeSettingsOptions, LoadedSettings, Settings } from './settings/settings.ts'
export type * from './tenants/erasure-receipt.ts'
export type { ForEachTenantOptions, TenantVisit } from './tenants/for-each-tenant.ts'
export type { Tenant, TenantStatus } from './tenants/tenant.ts'
export type { ListTenantsOptions, MovedTenant, ProvisionOptions, Tenants } from './tenants/tenants.ts'
