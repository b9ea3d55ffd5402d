import type { Kysely } from 'kysely'

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
   * The same for a call of a function of rowhouse, alone in its statement, that enters the tenant itself
   * (rowhouse.lock_account, take_rate_limit) and leaves nothing on a connection: no settings, cursors, temporary objects, locks.
   */
  readonly calls: Kysely<any>
  /**
   * Runs `fn` in one transaction of the tenant; inside `withTenant` in a savepoint of its transaction.
   * `db` of the callback is dead after the callback, like the one of `withTenant`.
   */
  transaction<T>(fn: (db: Kysely<any>) => Promise<T>): Promise<T>
}
