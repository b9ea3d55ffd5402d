import type { Kysely } from 'kysely'
import { Analytics, type TrackOptions } from '../analytics/analytics.ts'
import { Audit } from '../audit/audit.ts'
import type { AuditBuffer } from '../audit/audit-buffer.ts'
import { Budget } from '../budgets/budget.ts'
import { Credentials } from '../credentials/credentials.ts'
import type { DataKeys } from '../credentials/data-keys.ts'
import type { EmbeddedDocument, EmbeddingSearch, TextDocument, TextSearch } from '../documents/document-types.ts'
import { Documents } from '../documents/documents.ts'
import type { DocumentsOptions, EmbedFunction } from '../documents/embed.ts'
import { Locks } from '../locks/locks.ts'
import type { TokenCounter } from '../prompt/count-tokens.ts'
import { Prompt } from '../prompt/prompt.ts'
import { Queue } from '../queues/queue.ts'
import { queueWaitersOf } from '../queues/queue-waiters.ts'
import { dispatcherOf } from '../rate-limits/rate-limit-dispatcher.ts'
import { RateLimiter } from '../rate-limits/rate-limiter.ts'
import { Channel } from '../realtime/channel.ts'
import { Sessions } from '../sessions/sessions.ts'
import type { SettingsDefinition } from '../settings/define-settings.ts'
import { Settings } from '../settings/settings.ts'
import { State } from '../state/state.ts'
import { Usage } from '../usage/usage.ts'
import type { ContextRuntime } from './context-runtime.ts'
import { joinAmbientTenant } from './current-tenant.ts'
import type { Caller, TenantExecutor } from './tenant-executor.ts'
import type { TenantCallback } from './with-tenant.ts'

export interface TenantContextParts<DB> {
  readonly tenantId: string
  readonly db: Kysely<DB>
  /** As `calls` of {@link TenantExecutor}; undefined inside a transaction. */
  readonly createCallKysely?: () => Kysely<any>
  /** As `callsOfSeveral` of {@link TenantExecutor}. */
  readonly findCallsOfSeveral?: () => Kysely<any> | undefined
  /** Runs a callback in a transaction of its own, or in a savepoint of the one that the context belongs to. */
  readonly run: <T>(fn: TenantCallback<DB, T>) => Promise<T>
  /** Where calls outside of a transaction may meet; undefined inside one. */
  readonly runtime?: ContextRuntime
  readonly identity: Caller
  readonly auditBuffer: AuditBuffer | undefined
  readonly settings: SettingsDefinition | undefined
  readonly dataKeys: DataKeys
  readonly countTokens: TokenCounter | undefined
}

/**
 * Everything that belongs to one tenant: its database and the modules on top of it.
 *
 * The second argument of a `withTenant` callback, whose transaction it joins, and what `rowhouse.tenant(id)` returns,
 * where each call is a transaction of its own.
 *
 * @example
 * ```ts
 * const acme = rowhouse.tenant('acme', { userId: 'u_1' })
 * await acme.runContext((db) => db.insertInto('invoices').values({ number: 'A-1', amount: 5 }).execute())
 * ```
 */
export class TenantContext<DB = any> {
  readonly #parts: TenantContextParts<DB>
  readonly #executor: TenantExecutor

  /** @internal */
  constructor(parts: TenantContextParts<DB>) {
    this.#parts = parts
    const db = parts.db.withoutPlugins()
    this.#executor = {
      tenantId: parts.tenantId,
      // Plugins of the application may rename columns, which is for its queries, not for those of the modules.
      db,
      get calls() {
        return parts.createCallKysely?.() ?? db
      },
      get callsOfSeveral() {
        return parts.findCallsOfSeveral?.()
      },
      caller: parts.identity,
      transaction: (fn) => parts.run((db) => fn(db.withoutPlugins())),
    }
  }

  get tenantId(): string {
    return this.#parts.tenantId
  }

  /** The tenant's database, for queries outside of a callback. */
  get db(): Kysely<DB> {
    return this.#parts.db
  }

  /** Puts prompts together: system prompt, documents, screening of inputs. */
  get prompt(): Prompt {
    return new Prompt(this.#executor, this.#parts.countTokens)
  }

  /** Limits how much the tenant, or a user, a key or a route of it, does in a window of time. */
  get rateLimiter(): RateLimiter {
    return new RateLimiter(this.#executor, this.#parts.runtime && dispatcherOf(this.#parts.runtime))
  }

  /** What the tenant may spend: quotas, budgets of money, calls at the same time. */
  get budget(): Budget {
    return new Budget(this.#executor, () => this.#isInTransaction(), this.#booksDb)
  }

  /** For the books of a suspended tenant; undefined inside a transaction. */
  get #booksDb(): (() => Kysely<any>) | undefined {
    const { runtime, tenantId, identity } = this.#parts
    const { userId, requestId } = identity
    return runtime && (() => runtime.createSettlingKysely(tenantId, { userId, requestId }).withoutPlugins())
  }

  /**
   * A queue for slots that all tenants share, by default the one called `default`.
   *
   * @example
   * ```ts
   * const { text } = await acme.queue('gpu').run(({ signal }) => complete('Summarize this.', { signal }))
   * ```
   */
  queue(name?: string): Queue {
    const { runtime } = this.#parts
    return new Queue(this.#executor, name, runtime && queueWaitersOf(runtime), () => this.#isInTransaction())
  }

  /** Whether a call would join a transaction that is open. */
  #isInTransaction(): boolean {
    const { runtime, tenantId } = this.#parts
    return runtime === undefined || joinAmbientTenant(tenantId, runtime.source, {}) !== undefined
  }

  /** What the tenant used and what it cost: records, reports, exports. */
  get usage(): Usage {
    return new Usage(this.#executor, this.#booksDb)
  }

  /** What happens in the tenant's use of your product: events, and how many of them. */
  get analytics(): Analytics {
    return new Analytics(this.#executor)
  }

  /**
   * Records an event of your product; `analytics` counts them. False when an event of this id was there already.
   *
   * SQL: `select rowhouse.track_events('[{"event": "document.opened", ...}]')`
   *
   * Errors: `invalid_event`.
   *
   * @example
   * ```ts
   * await acme.track('document.opened', { title: 'Handbook' }, { source: 'web', actor: 'u_1', runId: 'r_1' })
   * ```
   */
  track(event: string, properties?: Readonly<Record<string, unknown>>, options?: TrackOptions): Promise<boolean> {
    return this.analytics.track(event, properties, options)
  }

  /** Runs `fn` in one transaction, as `withTenant` does; inside `withTenant`, in a savepoint. */
  runContext<T>(fn: TenantCallback<DB, T>): Promise<T> {
    return this.#parts.run(fn)
  }

  /** The tenant's audit trail: append and read. */
  get audit(): Audit {
    return new Audit(this.#executor, this.#parts.auditBuffer, this.#parts.identity)
  }

  /** The tenant's configuration; `settings.as(definition)` types it. */
  get settings(): Settings {
    return new Settings(this.#executor, this.#parts.settings)
  }

  /** What the tenant needs to use other services, encrypted. */
  get credentials(): Credentials {
    return new Credentials(this.#executor, this.#parts.dataKeys)
  }

  /**
   * The tenant's documents in a collection, by default the one called `documents`. With `embed` they are written and
   * searched as text.
   *
   * @example
   * ```ts
   * const handbook = acme.documents('handbook', { embed })
   * await handbook.upsert([{ id: 'refunds', content: 'Refunds take five days.' }])
   * const hits = await handbook.search({ text: 'How long does a refund take?' })
   * ```
   */
  documents(collection?: string, options?: DocumentsOptions & { readonly embed?: undefined }): Documents
  documents(
    collection: string | undefined,
    options: DocumentsOptions & { readonly embed: EmbedFunction },
  ): Documents<TextDocument, EmbeddingSearch | TextSearch>
  documents(
    collection?: string,
    options?: DocumentsOptions,
  ): Documents<EmbeddedDocument, EmbeddingSearch> | Documents<TextDocument, EmbeddingSearch | TextSearch> {
    return new Documents(this.#executor, collection, options, (name) => this.#recordMismatch(name))
  }

  /** In a transaction of its own: the one that got the row is going to be rolled back. */
  #recordMismatch(collection: string): void {
    const entry = {
      action: 'documents.tenant_mismatch',
      error: 'the database answered with a row of another tenant',
      detail: { collection },
    }
    this.audit.append(entry, { buffered: true }).catch(() => {})
  }

  /**
   * The tenant's conversations and their messages.
   *
   * @example
   * ```ts
   * const session = await acme.sessions.create({ userId: 'u_1' })
   * await acme.sessions.append(session.id, [{ role: 'user', content: 'Hello' }])
   * const { messages } = await acme.sessions.window(session.id, { maxTokens: 8000 })
   * ```
   */
  get sessions(): Sessions {
    return new Sessions(this.#executor, this.#parts.countTokens)
  }

  /**
   * The tenant's values under keys: caches, counters, flags.
   *
   * @example
   * ```ts
   * await acme.state.set('onboarding', { step: 3 }, { ttlMs: 86_400_000 })
   * ```
   */
  get state(): State {
    return new State(this.#executor)
  }

  /**
   * Locks by which processes that work for the tenant exclude each other.
   *
   * @example
   * ```ts
   * await acme.locks.withLock('reindex', async () => work(db))
   * ```
   */
  get locks(): Locks {
    return new Locks(this.#executor)
  }

  /**
   * Messages between the tenant's processes and users, and who is there.
   *
   * @example
   * ```ts
   * const room = acme.channel('room-1')
   * const subscription = await room.subscribe((message) => logger.info({ payload: message.payload }, 'received'))
   * await room.publish({ text: 'Hello' })
   * ```
   */
  channel(name: string): Channel {
    const { runtime, tenantId } = this.#parts
    return new Channel(this.#executor, name, () =>
      runtime === undefined || joinAmbientTenant(tenantId, runtime.source, {}) !== undefined
        ? undefined
        : runtime.channelHub,
    )
  }
}
