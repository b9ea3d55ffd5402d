/**
 * Terms:
 * - **tenant**: a customer of your application, whose rows nobody else may see; named by a tenant id.
 * - **context**: who a transaction runs as: the role, the tenant, and optionally the user and the request.
 * - **protected table**: a table that `rowhouse.protect_table` put under row-level security.
 * - **operator**: who manages tenants, as the role `rowhouse_admin`; sees one tenant at a time.
 * - **quota**: how much of a metric a tenant may use in a period; a **budget** is a quota of the metric money.
 * - **admission**: the decision that a call may begin; it makes a **reservation** of the most that the call can use.
 * - **settlement**: books what the call did use, and gives the rest of its reservation back.
 * - **circuit**: stops the calls of a tenant, or those of it to one provider, when too many fail or money runs away.
 * - **queue**: where requests of all tenants wait for a **slot**, of which there are so many; a **ticket** names a request.
 * - **job**: work of a tenant that outlives the request which asked for it; a **run** is a job with the jobs that it made, a
 *   **step** a part of one that is done once; a **wake-up** tells a worker to look for a job.
 * - **overrun**: what was used beyond a limit, by a call that used more than it had reserved or settled after its lease.
 *
 * @module
 */

export type {
  Analytics,
  BreakdownOptions,
  EventCount,
  EventDimension,
  TrackedEvent,
  TrackOptions,
} from './analytics/analytics.ts'
export type { AppendOptions, Audit, AuditQuery } from './audit/audit.ts'
export type { AuditBufferOptions, LostAuditEntries } from './audit/audit-buffer.ts'
export type { AuditEntry, AuditEntryInput } from './audit/audit-entry.ts'
export type {
  AuditDenial,
  AuditFinding,
  AuditLog,
  AuditProgress,
  SealedAudit,
  SealOptions,
  VerifiedAudit,
  VerifyOptions,
} from './audit/audit-log.ts'
export type { Budget } from './budgets/budget.ts'
export type * from './budgets/budget-types.ts'
export type { CircuitRule, Circuits } from './budgets/circuits.ts'
export type { ModelPrices, Money, Price, Prices, SetPricesOptions } from './budgets/prices.ts'
export type { AccountSettings, QuotaDefinition, QuotaLimits, Quotas } from './budgets/quotas.ts'
export type { BudgetCallback, RunningCall, RunRequest } from './budgets/run-in-budget.ts'
export type { PricedUnits, Units } from './budgets/units.ts'
export type { ContextOptions } from './context/context-options.ts'
export { getCurrentTenant } from './context/current-tenant.ts'
export type { RetryOptions } from './context/retry.ts'
export type { ConnectionOptions, PlacementOptions, RowhouseOptions } from './context/rowhouse-options.ts'
export type { SealKey } from './context/seal.ts'
export type { TenantChange, TenantChangeListener } from './context/tenant-changes.ts'
export { TenantContext } from './context/tenant-context.ts'
export type { TenantExecutor } from './context/tenant-executor.ts'
export type { QueryOptions, TenantQuery, TenantQueryResult } from './context/tenant-query.ts'
export type { TenantCallback, WithTenantOptions } from './context/with-tenant.ts'
export type { CredentialKeys, RewrapProgress, RewrapResult } from './credentials/credential-keys.ts'
export type { CredentialInfo, Credentials } from './credentials/credentials.ts'
export {
  type KeyContext,
  type KeyProvider,
  masterKeysFromEnvironment,
  masterKeysFromFile,
  type WrappedKey,
} from './credentials/key-provider.ts'
export { type KmsClient, type KmsKeysOptions, masterKeysFromKms } from './credentials/kms-keys.ts'
export type { Secret } from './credentials/secret.ts'
export type { DoctorOptions } from './doctor/doctor.ts'
export type { Finding, FindingLevel } from './doctor/finding.ts'
export type {
  Collection,
  CollectionChange,
  CollectionOptions,
  Collections,
  ElementType,
  IndexOptions,
  Metric,
} from './documents/collections.ts'
export type * from './documents/document-types.ts'
export type { Documents } from './documents/documents.ts'
export type { DocumentsOptions, EmbeddingModel, EmbedFunction } from './documents/embed.ts'
export type { Filter, FilterOperators, JsonValue } from './documents/filter.ts'
export type { ModelChangeOptions, ModelChangeProgress } from './documents/model-change.ts'
export type { ParentDocuments } from './documents/parent-documents.ts'
export { verifyErasureCertificate } from './erasures/erasure-certificate.ts'
export type {
  Erasures,
  ErasureVerification,
  Residue,
  ResidueOptions,
  VerifyErasureOptions,
} from './erasures/erasures.ts'
export * from './errors.ts'
export type { JobQueue } from './jobs/job-queue.ts'
export type * from './jobs/job-types.ts'
export { defineJobs, defineTask, type Jobs } from './jobs/jobs.ts'
export type { Run, RunningJob, Steps } from './jobs/running-job.ts'
export type {
  ApiKey,
  ApiKeyEnvironment,
  ApiKeys,
  AuthenticateOptions,
  IssueApiKeyOptions,
  IssuedApiKey,
  RotateApiKeyOptions,
} from './keys/api-keys.ts'
export type { Lock } from './locks/lock.ts'
export type { AcquireOptions, Locks, WithLockOptions } from './locks/locks.ts'
export type { MigrateOptions } from './migrate/migrate.ts'
export type * from './migrate/report.ts'
export type * from './placements/move-types.ts'
export type * from './portability/portability-types.ts'
export { estimateTokens, type TokenCounter } from './prompt/count-tokens.ts'
export type { InjectionPhrase } from './prompt/injection-phrases.ts'
export type { Prompt } from './prompt/prompt.ts'
export type { ContextDocument, RagContext, RagContextOptions } from './prompt/rag-context.ts'
export { type InputFinding, type ScreenedInput, type ScreenOptions, screenInput } from './prompt/screen-input.ts'
export type { SystemPromptOptions } from './prompt/system-prompt.ts'
export type { ProtectOptions } from './protect/protect.ts'
export type * from './protect/protection-report.ts'
export type { TableName } from './protect/table-name.ts'
export type { Queue } from './queues/queue.ts'
export type { QueueSlot } from './queues/queue-slot.ts'
export type { QueueTicket, WaitOptions } from './queues/queue-ticket.ts'
export type * from './queues/queue-types.ts'
export type { Queues } from './queues/queues.ts'
export type {
  AcquireRateLimitOptions,
  RateLimitLeaseOptions,
  RateLimitOptions,
  RateLimitWindow,
  TakeRateLimitOptions,
} from './rate-limits/rate-limit-options.ts'
export type { RateLimitResult, RateLimitWindowState } from './rate-limits/rate-limit-result.ts'
export type { EffectiveRateLimit, RateLimiter } from './rate-limits/rate-limiter.ts'
export type { RateLimits } from './rate-limits/rate-limits.ts'
export type {
  Channel,
  ChannelMember,
  JoinOptions,
  ReadMessagesOptions,
  SubscribeOptions,
} from './realtime/channel.ts'
export type { ChannelMessage } from './realtime/message.ts'
export type { MessageHandler, Subscription } from './realtime/subscription.ts'
export { createRowhouse, type Rowhouse } from './rowhouse.ts'
export type { SealInfo, Seals } from './seals/seals.ts'
export type * from './sessions/message-types.ts'
export type { PostgresSessionStore } from './sessions/postgres-session-store.ts'
export type { SessionStore, StoredSession } from './sessions/session-store.ts'
export type * from './sessions/session-types.ts'
export type { Sessions } from './sessions/sessions.ts'
export {
  TenantScopedSessionStore,
  type TenantScopedSessionStoreOptions,
  type UnscopedSessionStore,
} from './sessions/tenant-scoped-session-store.ts'
export {
  type DeepPartial,
  type DefineSettingsOptions,
  defineSettings,
  type SettingsChange,
  type SettingsDefinition,
} from './settings/define-settings.ts'
export type { ChangeSettingsOptions, LoadedSettings, Settings } from './settings/settings.ts'
export type { SigningKey } from './signing/ed25519-keys.ts'
export type { LifetimeOptions, State, StateEntry, StateListOptions, StatePage } from './state/state.ts'
export type { SweepOptions, SweepProgress, SweptTenant } from './sweep/sweep.ts'
export type { EraseOptions, ErasureProgress } from './tenants/erase-progress.ts'
export type * from './tenants/erasure-receipt.ts'
export type { ForEachTenantOptions, TenantVisit } from './tenants/for-each-tenant.ts'
export type { MovedTenant, RelocationOptions, RelocationProgress } from './tenants/relocate-tenant.ts'
export type { Tenant, TenantStatus } from './tenants/tenant.ts'
export type { ListTenantsOptions, ProvisionOptions, Tenants } from './tenants/tenants.ts'
export type { TenantTimeouts, Timeouts } from './tenants/timeouts.ts'
export type { RowValues } from './testing/insert-row.ts'
export { IsolationError, type IsolationLeak } from './testing/isolation-error.ts'
export type { IsolationProof, ProveIsolationOptions } from './testing/prove-isolation.ts'
export type { RecordUsageOptions, Usage } from './usage/usage.ts'
export type { UsageOfTenants } from './usage/usage-by-tenant.ts'
export type * from './usage/usage-types.ts'
