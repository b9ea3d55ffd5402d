import type { Kysely, KyselyPlugin, Log } from 'kysely'
import type { AuditBuffer } from '../audit/audit-buffer.ts'
import type { DataKeys } from '../credentials/data-keys.ts'
import type { TokenCounter } from '../prompt/count-tokens.ts'
import type { ChannelHub } from '../realtime/channel-hub.ts'
import type { SettingsDefinition } from '../settings/define-settings.ts'
import { createRoleExecutor } from './admin-executor.ts'
import { BoundedMap } from './bounded-map.ts'
import { scopeConnections, sessionConnections } from './connection-providers.ts'
import type { ConnectionSource } from './connection-source.ts'
import { type ContextOptions, hasNoOptions } from './context-options.ts'
import { type AmbientTenant, joinAmbientTenant } from './current-tenant.ts'
import type { ConnectionContext } from './database-connection.ts'
import { Notifications } from './notifications.ts'
import { onOwnConnection } from './own-connection.ts'
import type { Placements } from './placements.ts'
import type { Identity } from './prelude.ts'
import { onConnectionsOf, type QueryExecutorParts } from './query-executor.ts'
import type { Seal } from './seal.ts'
import { createSessionIdentity, type SessionIdentity } from './session-identity.ts'
import { singleStatements } from './single-statement.ts'
import type { StartupCheck } from './startup-check.ts'
import { createTenantKysely } from './tenant-kysely.ts'
import { addTenantPredicate } from './tenant-predicate.ts'
import { TransactionSession } from './transaction-session.ts'

export interface ContextRuntimeOptions {
  readonly source: ConnectionSource
  /** The role of tenants' transactions; undefined keeps the login. */
  readonly role: string | undefined
  readonly seal: Seal | undefined
  readonly startupCheck: StartupCheck
  readonly plugins: readonly KyselyPlugin[]
  readonly log: Log
  /** Whether queries get the tenant predicate. */
  readonly predicate: boolean
  readonly settings?: SettingsDefinition | undefined
  readonly dataKeys: DataKeys
  readonly countTokens?: TokenCounter | undefined
  /** Other databases that tenants may be in. */
  readonly placements?: Placements | undefined
}

/** What all handles of one `createRowhouse` call share. */
export class ContextRuntime {
  readonly source: ConnectionSource
  readonly startupCheck: StartupCheck
  /** Audit entries that wait to be written; set when the runtime is opened. */
  auditBuffer: AuditBuffer | undefined
  /** Subscriptions to channels; set when the runtime is opened. */
  channelHub: ChannelHub | undefined
  /** What the settings of tenants look like. */
  readonly settings: SettingsDefinition | undefined
  readonly dataKeys: DataKeys
  /** How many tokens a text is; undefined: estimates. */
  readonly countTokens: TokenCounter | undefined
  readonly placements: Placements | undefined
  /** What the database announces. */
  readonly notifications: Notifications
  readonly #role: string | undefined
  readonly #seal: Seal | undefined
  readonly #plugins: readonly KyselyPlugin[]
  readonly #connectionContext: ConnectionContext
  readonly #predicate: boolean
  /** Of handles without options, by tenant: making them anew costs as much as compiling a query. */
  readonly #identities = new BoundedMap<SessionIdentity>()
  readonly #handles = new BoundedMap<Kysely<any>>()
  readonly #callHandles = new BoundedMap<Kysely<any>>()
  readonly #callsOfSeveral: Kysely<any> | undefined

  constructor({
    source,
    role,
    seal,
    startupCheck,
    plugins,
    log,
    predicate,
    settings,
    dataKeys,
    countTokens,
    placements,
  }: ContextRuntimeOptions) {
    this.source = source
    this.notifications = new Notifications(source)
    this.settings = settings
    this.dataKeys = dataKeys
    this.countTokens = countTokens
    this.placements = placements
    this.startupCheck = startupCheck
    this.#role = role
    this.#seal = seal
    this.#plugins = plugins
    this.#predicate = predicate
    this.#connectionContext = { log, terminate: terminateBackend }
    // A proof is that of one tenant. In other isolation levels the functions of rowhouse would have to wait for each tenant.
    if (seal === undefined && placements === undefined) {
      const settings = { isolationLevel: 'read committed' } as const
      this.#callsOfSeveral = createRoleExecutor(source, log, role, { settings }).db
    }
  }

  /**
   * For statements that work for several tenants, each a transaction in which no tenant is set. Undefined where tenants
   * prove who they are, or may be in other databases, and until the first statement of a tenant has checked the database.
   */
  get callsOfSeveral(): Kysely<any> | undefined {
    return this.startupCheck.facts === undefined ? undefined : this.#callsOfSeveral
  }

  /** Who the transactions of a tenant run as. */
  identify(tenantId: string, options: ContextOptions): SessionIdentity {
    if (hasNoOptions(options)) return this.#identities.getOrMake(tenantId, () => this.#identify(tenantId, options))
    return this.#identify(tenantId, options)
  }

  #identify(
    tenantId: string,
    { userId = '', requestId = '', readOnly, isolationLevel }: ContextOptions,
    { settles, entersItself }: Pick<Identity, 'settles' | 'entersItself'> = {},
  ): SessionIdentity {
    return createSessionIdentity(
      { role: this.#role, tenantId, userId, requestId, settles, entersItself, seal: this.#seal },
      { isolationLevel, accessMode: readOnly ? 'read only' : undefined },
    )
  }

  createSession(identity: SessionIdentity, signal?: AbortSignal): TransactionSession {
    const { tenantId } = identity
    const { placements } = this
    if (placements === undefined || tenantId === undefined) return new TransactionSession(this.source, identity, signal)
    return new TransactionSession(placements.sourceOf(tenantId), identity, signal, (name) =>
      placements.follow(tenantId, name),
    )
  }

  /** A Kysely whose statements are transactions of the tenant, or join the surrounding `withTenant` of the tenant. */
  createKysely<DB>(tenantId: string, options: ContextOptions): Kysely<DB> {
    const make = () => this.#createHandle<DB>(tenantId, options, this.identify(tenantId, options))
    return hasNoOptions(options) ? this.#handles.getOrMake(tenantId, make) : make()
  }

  /** The same for single calls of functions of rowhouse that enter the tenant, and leave nothing on a connection. */
  createCallKysely(tenantId: string, options: ContextOptions): Kysely<any> {
    const make = () => {
      const call = this.#identify(tenantId, options, { entersItself: true })
      return this.#createHandle(tenantId, options, this.identify(tenantId, options), call).withoutPlugins()
    }
    return hasNoOptions(options) ? this.#callHandles.getOrMake(tenantId, make) : make()
  }

  /** The same for transactions that only settle calls, or record what happened: of a suspended tenant too. */
  createSettlingKysely(tenantId: string, options: ContextOptions): Kysely<any> {
    return this.#createHandle(tenantId, options, this.#identify(tenantId, options, { settles: true }))
  }

  #createHandle<DB>(
    tenantId: string,
    options: ContextOptions,
    identity: SessionIdentity,
    /** Of single calls that leave nothing on a connection. */
    call?: SessionIdentity,
  ): Kysely<DB> {
    const context = this.#connectionContext
    const join = () => joinAmbientTenant(tenantId, this.source, options)
    const provider = (keepTraces: boolean): QueryExecutorParts['statements'] => {
      const own = sessionConnections((signal) => this.createSession(identity, signal), context, { keepTraces })
      return {
        provideConnection: async (consumer, abortOptions) => {
          const ambient = join()
          if (ambient !== undefined) return scopeConnections(ambient, context).provideConnection(consumer, abortOptions)
          if (this.startupCheck.facts === undefined) await this.startupCheck.pass()
          return own.provideConnection(consumer, abortOptions)
        },
      }
    }
    const inSessions = onConnectionsOf(provider(false))
    const single = singleStatements(this.source, call ?? identity, context.log, {
      leavesNothing: call !== undefined,
    })
    return this.#createKysely<DB>(tenantId, {
      ...inSessions,
      executeSingle: async (query) => {
        // A session joins the transaction around it, and follows the tenant to another database.
        if (this.placements !== undefined || join() !== undefined) return inSessions.executeSingle(query)
        if (this.startupCheck.facts === undefined) await this.startupCheck.pass()
        return single(query)
      },
      connections: provider(true),
    })
  }

  /** A Kysely whose statements run in the transaction of a `withTenant` callback. */
  createScopeKysely<DB>(ambient: AmbientTenant): Kysely<DB> {
    return this.#createKysely<DB>(ambient.tenantId, onConnectionsOf(scopeConnections(ambient, this.#connectionContext)))
  }

  #createKysely<DB>(tenantId: string, providers: Omit<QueryExecutorParts, 'beforeCompile'>): Kysely<DB> {
    const beforeCompile: QueryExecutorParts['beforeCompile'] = (node) => {
      const tables = this.#predicate ? this.startupCheck.facts?.tenantTables : undefined
      return tables === undefined || tables.length === 0 ? node : addTenantPredicate(node, tables, tenantId)
    }
    return createTenantKysely<DB>({ ...providers, beforeCompile }, this.#plugins)
  }
}

async function terminateBackend(processId: number, source: ConnectionSource): Promise<void> {
  await onOwnConnection(source, (client) => client.query('select pg_terminate_backend($1)', [processId]))
}
