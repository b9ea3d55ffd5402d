import type { TransactionSettings } from 'kysely'
import { createRowhouseError } from '../errors.ts'
import type { ConnectionSource } from './connection-source.ts'
import type { ContextOptions } from './context-options.ts'
import { type ConnectionContext, TenantDatabaseConnection } from './database-connection.ts'
import type { QueryResultRows } from './pg-internals.ts'
import type { Statement } from './single-statement.ts'
import type { NestedScope, TransactionScope } from './transaction-scope.ts'

/** A connection inside a `withTenant` callback: transactions are savepoints of its transaction. */
export class ScopeConnection extends TenantDatabaseConnection {
  readonly #outer: TransactionScope
  readonly #options: ContextOptions
  readonly #isCallerInside: () => boolean
  #nested: NestedScope | undefined

  /** `isCallerInside` says whether the calling code runs in a callback that this connection was provided to. */
  constructor(
    scope: TransactionScope,
    options: ContextOptions,
    context: ConnectionContext,
    isCallerInside: () => boolean,
  ) {
    super(context)
    this.#outer = scope
    this.#options = options
    this.#isCallerInside = isCallerInside
  }

  /** Where statements run now. */
  get scope(): TransactionScope {
    return this.#nested?.scope ?? this.#outer
  }

  async begin({ isolationLevel, accessMode }: TransactionSettings): Promise<void> {
    if (isolationLevel !== undefined && isolationLevel !== this.#options.isolationLevel) throw differs('isolationLevel')
    if (accessMode !== undefined && (accessMode === 'read only') !== (this.#options.readOnly ?? false)) {
      throw differs('readOnly')
    }
    this.#nested = await this.#outer.nest({ exclusive: this.#isCallerInside() })
  }

  async commit(): Promise<void> {
    await this.#leave('release')
  }

  async rollback(): Promise<void> {
    await this.#leave('rollback')
  }

  async release(): Promise<void> {}

  abandon(reason: unknown): void {
    this.#outer.abandon(reason)
  }

  protected get source(): ConnectionSource {
    return this.#outer.source
  }

  protected get processId(): number | null | undefined {
    return this.#outer.processId
  }

  /** A stream's cursor lives in the transaction that is there. */
  protected get inTransaction(): boolean {
    return true
  }

  protected run(statement: Statement): Promise<QueryResultRows> {
    return this.scope.execute(statement)
  }

  protected async cancel(): Promise<void> {
    await this.#outer.cancel()
  }

  async #leave(how: 'release' | 'rollback'): Promise<void> {
    const nested = this.#nested
    await nested?.leave(how)
    this.#nested = undefined
  }
}

function differs(option: string): Error {
  return createRowhouseError(
    'invalid_argument',
    `A transaction inside withTenant is a savepoint of its transaction and can't have another ${option}.`,
    { hint: `Give ${option} to withTenant.` },
  )
}
