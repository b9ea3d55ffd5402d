import type { Kysely } from 'kysely'
import { Audit, type AuditIdentity } from '../audit/audit.ts'
import type { AuditBuffer } from '../audit/audit-buffer.ts'
import type { EmbeddedDocument, EmbeddingSearch, TextDocument, TextSearch } from '../documents/document-types.ts'
import { Documents } from '../documents/documents.ts'
import type { EmbedFunction } from '../documents/embed.ts'
import type { SettingsDefinition } from '../settings/define-settings.ts'
import { Settings } from '../settings/settings.ts'
import type { TenantExecutor } from './tenant-executor.ts'
import type { TenantCallback } from './with-tenant.ts'

export interface TenantContextParts<DB> {
  readonly tenantId: string
  readonly db: Kysely<DB>
  /** Runs a callback in a transaction of its own, or in a savepoint of the one that the context belongs to. */
  readonly run: <T>(fn: TenantCallback<DB, T>) => Promise<T>
  readonly identity: AuditIdentity
  readonly auditBuffer: AuditBuffer | undefined
  readonly settings: SettingsDefinition | undefined
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
    this.#executor = {
      tenantId: parts.tenantId,
      // Plugins of the application may rename columns, which is for its queries, not for those of the modules.
      db: parts.db.withoutPlugins(),
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
  documents(collection?: string): Documents
  documents(
    collection: string | undefined,
    options: { readonly embed: EmbedFunction },
  ): Documents<TextDocument, EmbeddingSearch | TextSearch>
  documents(
    collection?: string,
    options?: { readonly embed: EmbedFunction },
  ): Documents<EmbeddedDocument, EmbeddingSearch> | Documents<TextDocument, EmbeddingSearch | TextSearch> {
    return new Documents(this.#executor, collection, options)
  }
}
