import type { Kysely } from 'kysely'
import { AuditLog } from './audit/audit-log.ts'
import { type Circuits, createCircuits } from './budgets/circuits.ts'
import { createPrices, type Prices } from './budgets/prices.ts'
import { createQuotas, type Quotas } from './budgets/quotas.ts'
import { type ContextOptions, parseContextOptions, parseTenantId } from './context/context-options.ts'
import type { ContextRuntime } from './context/context-runtime.ts'
import type { RowhouseOptions } from './context/rowhouse-options.ts'
import { type TenantChangeListener, watchTenantChanges } from './context/tenant-changes.ts'
import { TenantContext } from './context/tenant-context.ts'
import { type QueryOptions, queryTenant, type TenantQuery, type TenantQueryResult } from './context/tenant-query.ts'
import { type TenantCallback, type WithTenantOptions, withTenant } from './context/with-tenant.ts'
import { CredentialKeys } from './credentials/credential-keys.ts'
import { type DoctorOptions, runDoctor } from './doctor/doctor.ts'
import type { Finding } from './doctor/finding.ts'
import { Collections } from './documents/collections.ts'
import { Erasures } from './erasures/erasures.ts'
import { installJobQueue, type JobQueue } from './jobs/job-queue.ts'
import { ApiKeys } from './keys/api-keys.ts'
import { type MigrateOptions, migrate } from './migrate/migrate.ts'
import type { MigrationReport } from './migrate/report.ts'
import { openDetached, openRuntime } from './open-runtime.ts'
import {
  auditTable,
  exemptTable,
  listProtectedTables,
  type ProtectOptions,
  protectTable,
  runAsOwner,
  unauditTable,
  unprotectTable,
} from './protect/protect.ts'
import type { ProtectedTable, ProtectionReport } from './protect/protection-report.ts'
import type { TableName } from './protect/table-name.ts'
import { createQueues, type Queues } from './queues/queues.ts'
import { createRateLimits, type RateLimits } from './rate-limits/rate-limits.ts'
import { Seals } from './seals/seals.ts'
import { type SweepOptions, type SweptTenant, sweepTenants } from './sweep/sweep.ts'
import { sweepParts } from './sweep/sweep-parts.ts'
import {
  BILLED_STATUSES,
  type ForEachTenantOptions,
  forEachTenant,
  type TenantVisit,
  visitTenants,
} from './tenants/for-each-tenant.ts'
import { Tenants } from './tenants/tenants.ts'
import { createTimeouts, type Timeouts } from './tenants/timeouts.ts'
import { type IsolationProof, type ProveIsolationOptions, proveIsolation } from './testing/prove-isolation.ts'
import { createUsageOfTenants, type UsageOfTenants } from './usage/usage-by-tenant.ts'

/** The entry to rowhouse. Every method is bound, so it may be destructured. */
export interface Rowhouse<DB = any> extends AsyncDisposable {
  /** The tenant of a single-tenant deployment: `ROWHOUSE_TENANT_ID`, or `default`. */
  readonly defaultTenantId: string
  /**
   * Runs `fn` in one transaction of the tenant. Everything is committed when it returns, and rolled back when it throws.
   *
   * No connection is in use before the first statement, which carries the prelude; with one statement there are two
   * network round trips. Inside a callback of the same tenant, `fn` runs in a savepoint.
   *
   * SQL: `begin; set local role rowhouse_app; set local app.tenant_id = 'acme'; ...; select rowhouse.enter_tenant();`
   * your statements, `commit`.
   *
   * Errors: {@link TenantNotFoundError}, {@link TenantSuspendedError}, {@link TenantInactiveError},
   * {@link TenantMismatchError}, {@link ConnectionTaintedError}, and `RowhouseError` of the codes `invalid_tenant_id`,
   * `unawaited_query`, `context_ended`, `aborted_transaction`, `connection_failed`.
   *
   * @example
   * ```ts
   * const invoices = await rowhouse.withTenant('acme', async (db) => {
   *   await db.insertInto('invoices').values({ number: 'A-1', amount: 5 }).execute()
   *   return db.selectFrom('invoices').selectAll().execute()
   * })
   * ```
   */
  withTenant<T>(tenantId: string, fn: TenantCallback<DB, T>, options?: WithTenantOptions): Promise<T>
  /**
   * Runs one statement as a transaction of the tenant, in one network round trip, and resolves to what `execute()` of
   * the query would.
   *
   * SQL: the prelude of `withTenant`, your statement and `commit`, in one message.
   *
   * @example
   * ```ts
   * const invoices = await rowhouse.query('acme', (db) => db.selectFrom('invoices').selectAll())
   * ```
   */
  query<Q extends TenantQuery>(
    tenantId: string,
    build: (db: Kysely<DB>) => Q,
    options?: QueryOptions,
  ): Promise<TenantQueryResult<Q>>
  /** The modules of one tenant, each call a transaction of its own. */
  tenant(tenantId: string, options?: ContextOptions): TenantContext<DB>
  /**
   * A complete Kysely for code that expects one: every statement in a transaction of the tenant and in one network
   * round trip; `transaction()`, `startTransaction()`, `connection()` and `stream()` as in Kysely. `destroy()` does
   * nothing: the pool belongs to rowhouse. Inside `withTenant` of the same tenant it joins that transaction.
   */
  kysely(tenantId: string, options?: ContextOptions): Kysely<DB>
  /**
   * Installs rowhouse in the database, or brings it up to date; harmless when there is nothing to do, and from several
   * processes at once. Runs as the login, which owns the database, on a connection of its own.
   *
   * Errors: `missing_privilege`, `server_too_old`, `database_newer`, `migration_failed`, `connection_failed`; the message
   * says what to do.
   */
  migrate(options?: MigrateOptions): Promise<MigrationReport>
  /**
   * Makes a table of the application tenant-owned: column, default, `not null`, policies on the table and its
   * partitions, privileges, write guard, registration. Does only what is missing. Runs as the login, which must own the
   * table.
   *
   * SQL: `select rowhouse.protect_table('public.invoices')`
   *
   * Errors: `table_not_protectable`, with the reason.
   *
   * @example
   * ```ts
   * const { findings } = await rowhouse.protectTable('public.invoices', { existingRows: 'acme' })
   * for (const finding of findings) console.warn(finding.object, finding.detail, finding.mend)
   * ```
   */
  protectTable(table: TableName, options?: ProtectOptions): Promise<ProtectionReport>
  /**
   * Takes the protection of a table back; its tenant column and the values stay.
   *
   * SQL: `select rowhouse.unprotect_table('public.invoices')`
   */
  unprotectTable(table: TableName): Promise<void>
  /**
   * Declares that a table with a tenant column holds nothing that must go when a tenant is erased. Receipts name it.
   *
   * SQL: `select rowhouse.exempt_table('public.signups', 'counts only')`
   */
  exemptTable(table: TableName, reason: string): Promise<void>
  /**
   * Keeps the history of a protected table: each row that is inserted, changed or deleted becomes an entry in the audit
   * trail of its tenant, in the same transaction. Calling it again changes which columns are left out.
   *
   * SQL: `select rowhouse.audit_table('public.invoices', '{secret}')`
   *
   * Errors: `table_not_protected`, `table_not_protectable` when it has no primary key.
   *
   * @example
   * ```ts
   * await rowhouse.auditTable('public.invoices')
   * const [entry] = await rowhouse.tenant('acme').audit.query({ action: 'rowhouse.row.update' })
   * logger.info({ detail: entry?.detail }, 'changed')   // { table, key, changes: { amount: { from: 120, to: 90 } } }
   * ```
   */
  auditTable(table: TableName, options?: { readonly except?: readonly string[] | undefined }): Promise<void>
  /**
   * Ends the history of a table; what was recorded stays.
   *
   * SQL: `select rowhouse.unaudit_table('public.invoices')`
   */
  unauditTable(table: TableName): Promise<void>
  /** The tables under protection. */
  protectedTables(): Promise<ProtectedTable[]>
  /** Provision, suspend, promote, erase: the life of tenants. */
  readonly tenants: Tenants
  /** Sealed contexts: a tenant that injected SQL can't change. */
  readonly seals: Seals
  /** Create, list, index and drop vector collections. */
  readonly collections: Collections
  /**
   * Runs `fn` for every active tenant, each in a transaction of its own: data migrations, reports. No role of rowhouse
   * sees two tenants at once. Stops at the first error; tenants before it are done.
   *
   * @example
   * ```ts
   * const totals = await rowhouse.forEachTenant(
   *   (db) => db.selectFrom('invoices').select((eb) => eb.fn.sum('amount').as('total')).executeTakeFirst(),
   *   { concurrency: 4 },
   * )
   * ```
   */
  forEachTenant<T>(fn: TenantCallback<DB, T>, options?: ForEachTenantOptions): Promise<TenantVisit<T>[]>
  /** Rate limits of tiers and of single tenants, for operators. */
  readonly rateLimits: RateLimits
  /** Quotas and budgets of tiers and of single tenants, for operators. */
  readonly quotas: Quotas
  /** Circuits that stop failing or runaway calls, for operators. */
  readonly circuits: Circuits
  /** Queues for slots that tenants share, for operators. */
  readonly queues: Queues
  /** Timeouts of the transactions of tenants, for operators. */
  readonly timeouts: Timeouts
  /** Prices of models, for operators. */
  readonly prices: Prices
  /**
   * Tells when the status of a tenant changes, in whichever process: by NOTIFY, on a connection of its own that is opened
   * again when it is lost. A hint for caches; every transaction asks the registry itself. Returns what stops it.
   *
   * SQL: `listen rowhouse_tenants`
   *
   * @example
   * ```ts
   * const active = new Set(['acme'])
   * const stop = rowhouse.watchTenants({
   *   changed: ({ concerns }) => {
   *     for (const tenantId of active) if (concerns(tenantId)) active.delete(tenantId)
   *   },
   *   lost: () => active.clear(),
   * })
   * ```
   */
  watchTenants(listener: TenantChangeListener): () => void
  /** Rotates the master key of the credentials of all tenants. */
  readonly credentialKeys: CredentialKeys
  /** Issues, checks, rotates and revokes the API keys of tenants. */
  readonly apiKeys: ApiKeys
  /** Seals and verifies the audit trails of tenants, for operators. */
  readonly auditLog: AuditLog
  /** Receipts and certificates of erasures, and the search for what they left. */
  readonly erasures: Erasures
  /** Usage of all tenants, for operators. */
  readonly usage: UsageOfTenants
  /**
   * Removes what nobody sees any more (sessions, values, locks and messages of channels that expired, idle counters, old
   * events) and brings the rollups of usage up to date: one active tenant after another, in batches of small
   * transactions. Call it regularly, from one process or several: none waits for another, nothing is removed twice, and
   * when all have ended nothing is left.
   *
   * SQL: `select rowhouse.sweep_sessions()`, `sweep_state`, `sweep_locks`, `sweep_channels`, `sweep_queue_requests`,
   * `rollup_usage`, `sweep_usage_events`, `sweep_events`, `sweep_jobs`, as each tenant
   *
   * @example
   * ```ts
   * const swept = await rowhouse.sweep({
   *   onBatch: ({ tenantId, part, removed }) => logger.info({ tenantId, part, removed }, 'swept'),
   * })
   * logger.info({ tenants: swept.length }, 'swept')
   * ```
   */
  sweep(options?: SweepOptions): Promise<SweptTenant[]>
  /**
   * Lets rowhouse put wake-ups for jobs into the tables of a queue library; `jobs.install()` calls it. Runs as the login,
   * which must own the schema of the library.
   */
  installJobQueue(queue: JobQueue): Promise<void>
  /**
   * Looks in the catalogs for everything by which one tenant could reach another's rows, or learn about them, for what
   * was changed of the installation by hand, and for a server that lacks fixes: one lint for each file of `sql/doctor`.
   * Errors come first. Changes nothing. Runs as the login, a member of `rowhouse_admin`.
   *
   * SQL: `select * from rowhouse.doctor('rowhouse_app')`
   *
   * Errors: `not_migrated`, `missing_privilege`, `invalid_argument`.
   *
   * @example
   * ```ts
   * const findings = await rowhouse.doctor({ sharedTables: ['public.countries'], ignore: ['outdated_server'] })
   * for (const { level, object, detail, mend } of findings) logger.info({ level, object, mend }, detail)
   * ```
   */
  doctor(options?: DoctorOptions): Promise<Finding[]>
  /**
   * Puts a row of each of two throw-away tenants into every protected table and lets one of them attack the other one's
   * rows in every way that SQL has, in one transaction that is rolled back: it finds what policies let through, whatever
   * the catalogs say. Triggers of the tables do run, and numbers of sequences are used up. Runs as the login, a member of
   * `rowhouse_admin` and of the role of requests.
   *
   * SQL: `begin; select rowhouse.provision_tenant(...); insert ...; savepoint attempt; select ...; rollback`
   *
   * Errors: `IsolationError` of `rowhouse/testing`, which names each table and what was done; `invalid_argument` when a row
   * can't be made up (`rows` gives it); `not_migrated`, `missing_privilege`, `table_not_protected`.
   *
   * @example
   * ```ts
   * const { attempts, tables } = await rowhouse.prove()
   * logger.info({ attempts, tables: tables.length }, 'no row of another tenant was reached')
   * ```
   */
  prove(options?: ProveIsolationOptions): Promise<IsolationProof>
  /** Looks again at which tables belong to tenants; after migrations of the application. */
  reload(): Promise<void>
  /**
   * Lets `close()` wait for work that goes on after its caller has gone, such as what a handler does after its answer.
   * Its failure is yours to report.
   */
  waitUntil(work: Promise<unknown>): void
  /**
   * Waits for `waitUntil` and for requests that have reserved something, until it is booked or their lease ends, so end
   * the server first. Then ends subscriptions, writes buffered audit entries and ends the pools that rowhouse made; a given
   * pool stays open.
   */
  close(): Promise<void>
}

/**
 * Connects to a database in which rowhouse is installed. Nothing is sent before the first use.
 *
 * @example
 * ```ts
 * const rowhouse = createRowhouse<AppTables>({ connectionString: process.env.DATABASE_URL })
 * const { withTenant } = rowhouse
 * ```
 */
export function createRowhouse<DB = any>(options: RowhouseOptions): Rowhouse<DB> {
  const { runtime, auditBuffer, admin, directory, outside, owner, ownerOf, background, close } = openRuntime(options)
  const tenants = new Tenants(admin, directory)
  /** Which tables belong to tenants may have changed, so the next transaction looks again. */
  const thenLookAgain = async <T>(work: Promise<T>): Promise<T> => {
    const result = await work
    runtime.startupCheck.forget()
    return result
  }
  const rowhouse: Rowhouse<DB> = {
    defaultTenantId: parseTenantId(process.env.ROWHOUSE_TENANT_ID ?? 'default'),
    withTenant: (tenantId, fn, withTenantOptions) => withTenant(runtime, tenantId, fn, withTenantOptions),
    query: (tenantId, build, queryOptions) => queryTenant(runtime, tenantId, build, queryOptions),
    tenant: (tenantId, contextOptions) => openTenantContext<DB>(runtime, tenantId, contextOptions),
    kysely: (tenantId, contextOptions = {}) =>
      runtime.createKysely<DB>(parseTenantId(tenantId), parseContextOptions(contextOptions)),
    migrate: (migrateOptions) => thenLookAgain(owner((client) => migrate({ client }, migrateOptions))),
    protectTable: (table, protectOptions) => thenLookAgain(protectTable(owner, table, protectOptions)),
    unprotectTable: (table) => thenLookAgain(unprotectTable(owner, table)),
    exemptTable: (table, reason) => exemptTable(owner, table, reason),
    auditTable: (table, auditOptions) => auditTable(owner, table, auditOptions),
    unauditTable: (table) => unauditTable(owner, table),
    protectedTables: () => listProtectedTables(owner),
    tenants,
    collections: new Collections(admin, () => runtime.startupCheck.forget()),
    seals: new Seals(admin, owner, () => runtime.startupCheck.forget()),
    forEachTenant: (fn, forEachOptions) =>
      forEachTenant(tenants, (tenantId, visit) => withTenant(runtime, tenantId, visit), fn, forEachOptions),
    rateLimits: createRateLimits(admin),
    quotas: createQuotas(admin),
    circuits: createCircuits(admin),
    queues: createQueues(admin),
    timeouts: createTimeouts(admin),
    prices: createPrices(admin),
    credentialKeys: new CredentialKeys(admin, tenants, runtime.dataKeys),
    watchTenants: (listener) => watchTenantChanges(runtime.notifications, listener),
    apiKeys: new ApiKeys(admin, (tenantId) => openDetached(runtime, tenantId), outside.db),
    auditLog: new AuditLog(admin, auditBuffer, directory),
    erasures: new Erasures(directory, ownerOf),
    usage: createUsageOfTenants((fn, options) =>
      visitTenants(tenants, BILLED_STATUSES, (tenantId) => fn(openTenantContext(runtime, tenantId).usage), options),
    ),
    sweep: (options) =>
      sweepTenants(
        () => tenants.all({ status: 'active' }),
        sweepParts({ tenant: (tenantId) => openDetached(runtime, tenantId), admin: admin.db }),
        options,
      ),
    installJobQueue: (queue) => installJobQueue(owner, queue),
    doctor: (doctorOptions) => runAsOwner(owner, (client) => runDoctor(client, doctorOptions)),
    prove: (proveOptions) =>
      runAsOwner(owner, (client) => proveIsolation(client, { seal: options.seal, ...proveOptions })),
    reload: async () => {
      await runtime.startupCheck.reload()
    },
    waitUntil: (work) => background.add(work),
    close,
    [Symbol.asyncDispose]: close,
  }
  return rowhouse
}

function openTenantContext<DB>(
  runtime: ContextRuntime,
  tenantId: string,
  options: ContextOptions = {},
): TenantContext<DB> {
  const id = parseTenantId(tenantId)
  const parsed = parseContextOptions(options)
  return new TenantContext<DB>({
    tenantId: id,
    db: runtime.createKysely<DB>(id, parsed),
    // In nobody's name, so that the callers of a tenant share it.
    createCallKysely: () =>
      runtime.createCallKysely(id, { readOnly: parsed.readOnly, isolationLevel: parsed.isolationLevel }),
    // What a transaction is to be like holds for all that is in it.
    findCallsOfSeveral: () =>
      parsed.readOnly || parsed.isolationLevel !== undefined ? undefined : runtime.callsOfSeveral,
    run: (fn) => withTenant(runtime, id, fn, parsed),
    runtime,
    identity: parsed,
    auditBuffer: runtime.auditBuffer,
    settings: runtime.settings,
    dataKeys: runtime.dataKeys,
    countTokens: runtime.countTokens,
  })
}
