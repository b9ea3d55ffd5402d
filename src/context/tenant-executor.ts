import type { Kysely } from 'kysely'

/** Who acts: the user and the request of a context, if they are known. */
export interface Caller {
  readonly userId?: string | undefined
  readonly requestId?: string | undefined
}

/**
 * What a module of a tenant context (documents, sessions, ...) runs its SQL with.
 *
 * Inside `withTenant` everything joins that transaction. Outside, a single statement through `db` is one transaction
 * and one network round trip; several statements that belong together go through `transaction`.
 */
export interface TenantExecutor {
  /** The tenant that every statement runs as. */
  readonly tenantId: string
  /** Runs statements as the tenant. Statements name their tables with the schema. */
  readonly db: Kysely<any>
  /**
   * The same for calls of functions of rowhouse, alone in their statement, that enter the tenant themselves
   * (rowhouse.lock_account, take_rate_limit) and leave nothing on a connection: no settings, cursors, temporary objects, locks.
   * Outside of a transaction it is nobody's in particular, so that callers share it: see `caller`.
   */
  readonly calls: Kysely<any>
  /**
   * For statements of calls of functions of rowhouse, each of which names its tenant.
   * Undefined inside a transaction, and where each tenant needs a proof or a database of its own.
   */
  readonly callsOfSeveral: Kysely<any> | undefined
  /** Who makes them, where no transaction says it. */
  readonly caller: Caller
  /**
   * Runs `fn` in one transaction of the tenant; inside `withTenant` in a savepoint of its transaction.
   * `db` of the callback is dead after the callback, like the one of `withTenant`.
   */
  transaction<T>(fn: (db: Kysely<any>) => Promise<T>): Promise<T>
}
