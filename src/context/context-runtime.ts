import type { Kysely, KyselyPlugin, Log } from 'kysely'
import type { AuditBuffer } from '../audit/audit-buffer.ts'
import type { DataKeys } from '../credentials/data-keys.ts'
import type { ChannelHub } from '../realtime/channel-hub.ts'
import type { SettingsDefinition } from '../settings/define-settings.ts'
import { BoundedMap } from './bounded-map.ts'
import { scopeConnections, sessionConnections } from './connection-providers.ts'
import type { ConnectionSource } from './connection-source.ts'
import { type ContextOptions, hasNoOptions } from './context-options.ts'
import { type AmbientTenant, joinAmbientTenant } from './current-tenant.ts'
import type { ConnectionContext } from './database-connection.ts'
import { Notifications } from './notifications.ts'
import { onOwnConnection } from './own-connection.ts'
import type { Placements } from './placements.ts'
import type { QueryExecutorParts } from './query-executor.ts'
import type { Seal } from './seal.ts'
import { createSessionIdentity, type SessionIdentity } from './session-identity.ts'
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
    placements,
  }: ContextRuntimeOptions) {
    this.source = source
    this.notifications = new Notifications(source)
    this.settings = settings
    this.dataKeys = dataKeys
    this.placements = placements
    this.startupCheck = startupCheck
    this.#role = role
    this.#seal = seal
    this.#plugins = plugins
    this.#predicate = predicate
    this.#connectionContext = { log, terminate: terminateBackend }
  }

  /** Who the transactions of a tenant run as. */
  identify(tenantId: string, options: ContextOptions): SessionIdentity {
    if (hasNoOptions(options)) return this.#identities.getOrMake(tenantId, () => this.#identify(tenantId, options))
    return this.#identify(tenantId, options)
  }

  #identify(
    tenantId: string,
    { userId = '', requestId = '', readOnly, isolationLevel }: ContextOptions,
    settles = false,
  ): SessionIdentity {
    return createSessionIdentity(
      { role: this.#role, tenantId, userId, requestId, settles, seal: this.#seal },
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

  /** The same for transactions that only settle calls. */
  createSettlingKysely(tenantId: string, options: ContextOptions): Kysely<any> {
    return this.#createHandle(tenantId, options, this.#identify(tenantId, options, true))
  }

  #createHandle<DB>(tenantId: string, options: ContextOptions, identity: SessionIdentity): Kysely<DB> {
    const provider = (keepTraces: boolean): QueryExecutorParts['statements'] => {
      const own = sessionConnections((signal) => this.createSession(identity, signal), this.#connectionContext, {
        keepTraces,
      })
      return {
        provideConnection: async (consumer, abortOptions) => {
          const ambient = joinAmbientTenant(tenantId, this.source, options)
          if (ambient !== undefined) {
            return scopeConnections(ambient, this.#connectionContext).provideConnection(consumer, abortOptions)
          }
          if (this.startupCheck.facts === undefined) await this.startupCheck.pass()
          return own.provideConnection(consumer, abortOptions)
        },
      }
    }
    return this.#createKysely<DB>(tenantId, { statements: provider(false), connections: provider(true) })
  }

  /** A Kysely whose statements run in the transaction of a `withTenant` callback. */
  createScopeKysely<DB>(ambient: AmbientTenant): Kysely<DB> {
    const provider = scopeConnections(ambient, this.#connectionContext)
    return this.#createKysely<DB>(ambient.tenantId, { statements: provider, connections: provider })
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
