import type { TransactionSettings } from 'kysely'
import type { ConnectionSource } from './connection-source.ts'
import { type ConnectionContext, TenantDatabaseConnection } from './database-connection.ts'
import type { QueryResultRows } from './pg-internals.ts'
import type { Statement } from './single-statement.ts'
import type { TransactionSession } from './transaction-session.ts'

/** A connection of `rowhouse.kysely(id)`: transactions are transactions of the tenant. */
export class SessionConnection extends TenantDatabaseConnection {
  readonly #session: TransactionSession
  readonly #keepTraces: boolean

  /** With `keepTraces` the connection is used for several statements, whose session state lasts until its release. */
  constructor(session: TransactionSession, context: ConnectionContext, options: { keepTraces: boolean }) {
    super(context)
    this.#session = session
    this.#keepTraces = options.keepTraces
  }

  async begin(settings: TransactionSettings): Promise<void> {
    this.#session.begin(settings)
  }

  async commit(): Promise<void> {
    await this.#session.commit()
  }

  async rollback(): Promise<void> {
    await this.#session.rollback()
  }

  async release(): Promise<void> {
    await this.#session.release()
  }

  abandon(reason: unknown): void {
    this.#session.destroy(reason)
  }

  protected get source(): ConnectionSource {
    return this.#session.source
  }

  protected get processId(): number | null | undefined {
    return this.#session.processId
  }

  protected get inTransaction(): boolean {
    return this.#session.inTransaction
  }

  protected run(statement: Statement): Promise<QueryResultRows> {
    return this.#session.execute(statement, { keepTraces: this.#keepTraces })
  }

  protected async cancel(): Promise<void> {
    await this.#session.cancel()
  }
}
