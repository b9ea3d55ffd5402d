import { type InferResult, type Kysely, Log } from 'kysely'
import { type AdminExecutor, createAdminExecutor } from './context/admin-executor.ts'
import { ConnectionSource } from './context/connection-source.ts'
import { type ContextOptions, parseContextOptions, parseTenantId } from './context/context-options.ts'
import { ContextRuntime } from './context/context-runtime.ts'
import { openPool, parseRowhouseOptions, type RowhouseOptions } from './context/rowhouse-options.ts'
import { StartupCheck } from './context/startup-check.ts'
import { TenantContext } from './context/tenant-context.ts'
import { type QueryOptions, queryTenant, type TenantQuery } from './context/tenant-query.ts'
import { type TenantCallback, type WithTenantOptions, withTenant } from './context/with-tenant.ts'

/** The role of tenants' transactions unless the options say otherwise. */
const APP_ROLE = 'rowhouse_app'

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
   *   await db.insertInto('invoices').values({ total: 5 }).execute()
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
  ): Promise<InferResult<Q>>
  /** The modules of one tenant, each call a transaction of its own. */
  tenant(tenantId: string, options?: ContextOptions): TenantContext<DB>
  /**
   * A complete Kysely for code that expects one: every statement in a transaction of the tenant and in one network
   * round trip; `transaction()`, `startTransaction()`, `connection()` and `stream()` as in Kysely. `destroy()` does
   * nothing: the pool belongs to rowhouse. Inside `withTenant` of the same tenant it joins that transaction.
   */
  kysely(tenantId: string, options?: ContextOptions): Kysely<DB>
  /** Looks again at which tables belong to tenants; after migrations of the application. */
  reload(): Promise<void>
  /** Ends the pools that rowhouse made; a given pool stays open. */
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
  const { runtime, close } = openRuntime(options)
  const rowhouse: Rowhouse<DB> = {
    defaultTenantId: parseTenantId(process.env.ROWHOUSE_TENANT_ID ?? 'default'),
    withTenant: (tenantId, fn, withTenantOptions) => withTenant(runtime, tenantId, fn, withTenantOptions),
    query: (tenantId, build, queryOptions) => queryTenant(runtime, tenantId, build, queryOptions),
    tenant: (tenantId, contextOptions) => openTenantContext<DB>(runtime, tenantId, contextOptions),
    kysely: (tenantId, contextOptions = {}) =>
      runtime.createKysely<DB>(parseTenantId(tenantId), parseContextOptions(contextOptions)),
    reload: async () => {
      await runtime.startupCheck.reload()
    },
    close,
    [Symbol.asyncDispose]: close,
  }
  return rowhouse
}

interface OpenRuntime {
  readonly runtime: ContextRuntime
  readonly admin: AdminExecutor
  readonly close: () => Promise<void>
}

function openRuntime(options: RowhouseOptions): OpenRuntime {
  const { pipeline = false, role = APP_ROLE, plugins = [], predicate = true, admin } = parseRowhouseOptions(options)
  const log = new Log(options.log ?? [])
  const source = new ConnectionSource({ ...openPool(options, pipeline), pipeline })
  const adminSource =
    admin === undefined ? source : new ConnectionSource({ ...openPool(admin, false), pipeline: false })
  const tenantRole = role ?? undefined
  return {
    runtime: new ContextRuntime({
      source,
      role: tenantRole,
      startupCheck: new StartupCheck(source, tenantRole),
      plugins,
      log,
      predicate,
    }),
    admin: createAdminExecutor(adminSource, log),
    close: async () => {
      await Promise.all([source.close(), adminSource.close()])
    },
  }
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
    run: (fn) => withTenant(runtime, id, fn, parsed),
  })
}
