import type { Kysely, KyselyPlugin, Log } from 'kysely'
import pg from 'pg'
import type { AuditBuffer } from '../audit/audit-buffer.ts'
import type { DataKeys } from '../credentials/data-keys.ts'
import type { SettingsDefinition } from '../settings/define-settings.ts'
import { scopeConnections, sessionConnections } from './connection-providers.ts'
import type { ConnectionSource } from './connection-source.ts'
import type { ContextOptions } from './context-options.ts'
import { type AmbientTenant, joinAmbientTenant } from './current-tenant.ts'
import type { ConnectionContext } from './database-connection.ts'
import { Notifications } from './notifications.ts'
import { identityStatements } from './prelude.ts'
import type { QueryExecutorParts } from './query-executor.ts'
import type { Seal } from './seal.ts'
import type { StartupCheck } from './startup-check.ts'
import { createTenantKysely } from './tenant-kysely.ts'
import { addTenantPredicate } from './tenant-predicate.ts'
import { type SessionIdentity, TransactionSession } from './transaction-session.ts'

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
}

/** What all handles of one `createRowhouse` call share. */
export class ContextRuntime {
  readonly source: ConnectionSource
  readonly startupCheck: StartupCheck
  /** Audit entries that wait to be written; set when the runtime is opened. */
  auditBuffer: AuditBuffer | undefined
  /** What the settings of tenants look like. */
  readonly settings: SettingsDefinition | undefined
  readonly dataKeys: DataKeys
  /** What the database announces. */
  readonly notifications: Notifications
  readonly #role: string | undefined
  readonly #seal: Seal | undefined
  readonly #plugins: readonly KyselyPlugin[]
  readonly #connectionContext: ConnectionContext
  readonly #predicate: boolean

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
  }: ContextRuntimeOptions) {
    this.source = source
    this.notifications = new Notifications(source)
    this.settings = settings
    this.dataKeys = dataKeys
    this.startupCheck = startupCheck
    this.#role = role
    this.#seal = seal
    this.#plugins = plugins
    this.#predicate = predicate
    this.#connectionContext = { log, terminate: (processId) => terminateBackend(source, processId) }
  }

  /** Who the transactions of a tenant run as. */
  identify(
    tenantId: string,
    { userId = '', requestId = '', readOnly, isolationLevel }: ContextOptions,
    settles = false,
  ): SessionIdentity {
    const make = () => identityStatements({ role: this.#role, tenantId, userId, requestId, settles, seal: this.#seal })
    const statements = make()
    return {
      // A proof carries the time at which it was made.
      statements: this.#seal === undefined ? () => statements : make,
      role: this.#role,
      settings: { isolationLevel, accessMode: readOnly ? 'read only' : undefined },
    }
  }

  createSession(identity: SessionIdentity, signal?: AbortSignal): TransactionSession {
    return new TransactionSession(this.source, identity, signal)
  }

  /** A Kysely whose statements are transactions of the tenant, or join the surrounding `withTenant` of the tenant. */
  createKysely<DB>(tenantId: string, options: ContextOptions, { settles = false } = {}): Kysely<DB> {
    const identity = this.identify(tenantId, options, settles)
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

/** Over a connection outside the pool, which may have none left. */
async function terminateBackend(source: ConnectionSource, processId: number): Promise<void> {
  const client = new pg.Client(source.clientOptions)
  client.on('error', () => {})
  try {
    await client.connect()
    await client.query('select pg_terminate_backend($1)', [processId])
  } finally {
    await client.end()
  }
}
