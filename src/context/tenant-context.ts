import type { Kysely } from 'kysely'
import type { TenantExecutor } from './tenant-executor.ts'
import type { TenantCallback } from './with-tenant.ts'

export interface TenantContextParts<DB> {
  readonly tenantId: string
  readonly db: Kysely<DB>
  /** Runs a callback in a transaction of its own, or in a savepoint of the one that the context belongs to. */
  readonly run: <T>(fn: TenantCallback<DB, T>) => Promise<T>
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
 * await acme.runContext((db) => db.insertInto('invoices').values({ total: 5 }).execute())
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
      db: parts.db,
      transaction: (fn) => parts.run((db) => fn(db)),
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
}
