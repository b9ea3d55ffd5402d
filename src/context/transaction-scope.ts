import { createRowhouseError } from '../errors.ts'
import type { ConnectionSource } from './connection-source.ts'
import type { QueryResultRows } from './pg-internals.ts'
import type { Statement } from './single-statement.ts'
import type { TransactionSession } from './transaction-session.ts'

/**
 * The transaction of a `withTenant` callback, or a savepoint inside it.
 *
 * A scope ends with its callback: from then on every handle that was derived from it is dead. While a nested scope is
 * open, statements of the outer one wait for it, because a rollback of the nested one would undo them silently.
 */
export class TransactionScope {
  readonly #session: TransactionSession
  readonly #parent: TransactionScope | undefined
  readonly #savepoint: string
  #ended = false
  readonly #end = Promise.withResolvers<void>()
  /** Statements on their way. */
  #running = 0
  /** Nested scopes that nobody ended yet, oldest first. */
  readonly #nested: TransactionScope[] = []
  /** Ends with the nested scope that the statements of this one wait for. */
  #exclusive: Promise<void> | undefined

  constructor(session: TransactionSession, parent?: TransactionScope) {
    this.#session = session
    this.#parent = parent
    this.#savepoint = parent === undefined ? '' : session.createSavepointName()
  }

  /** Whether the callback is still running. */
  get active(): boolean {
    return !this.#ended && (this.#parent?.active ?? true)
  }

  get source(): ConnectionSource {
    return this.#session.source
  }

  get processId(): number | null | undefined {
    return this.#session.processId
  }

  isWithin(scope: TransactionScope): boolean {
    return this === scope || (this.#parent?.isWithin(scope) ?? false)
  }

  /** Runs a statement in the transaction. */
  async execute(statement: Statement): Promise<QueryResultRows> {
    return this.#whenFree(() => this.#session.execute(statement))
  }

  async cancel(): Promise<void> {
    await this.#session.cancel()
  }

  abandon(reason: unknown): void {
    this.#session.destroy(reason)
  }

  /**
   * Opens a nested scope. With `exclusive`, statements of this scope wait until it has ended; without, they take part
   * in the nested one: a transaction that the caller commits by hand, in the same flow.
   */
  async nest({ exclusive }: { exclusive: boolean }): Promise<NestedScope> {
    const end = Promise.withResolvers<void>()
    const scope = await this.#whenFree(async () => {
      const nested = new TransactionScope(this.#session, this)
      this.#nested.push(nested)
      if (exclusive) this.#exclusive = end.promise
      await this.#session.control(`savepoint ${nested.#savepoint}`).catch((error) => {
        this.#forget(nested, end)
        throw error
      })
      return nested
    })
    let left = false
    return {
      scope,
      leave: async (how) => {
        if (left) return
        if (this.#nested.at(-1) !== scope) throw outOfOrder()
        left = true
        scope.end()
        try {
          await this.#leave(scope, how)
        } finally {
          this.#forget(scope, end)
        }
      },
    }
  }

  /**
   * Ends the scope: new statements are refused. Those on their way are still answered before a rollback that follows.
   * Returns whether there were any, or a nested scope that nobody ended.
   */
  end(): { unawaited: boolean } {
    const unawaited = this.#running > 0 || this.#nested.length > 0
    this.#ended = true
    this.#end.resolve()
    return { unawaited }
  }

  async #leave(nested: TransactionScope, how: 'release' | 'rollback'): Promise<void> {
    // When an outer callback has returned, the transaction is being rolled back as a whole.
    if (!this.active) return
    const name = nested.#savepoint
    this.#running++
    try {
      if (how === 'release') await this.#session.control(`release savepoint ${name}`)
      else await this.#session.control(`rollback to savepoint ${name}`, `release savepoint ${name}`)
    } finally {
      this.#running--
    }
  }

  #forget(nested: TransactionScope, end: PromiseWithResolvers<void>): void {
    this.#nested.splice(this.#nested.indexOf(nested), 1)
    if (this.#exclusive === end.promise) this.#exclusive = undefined
    end.resolve()
  }

  async #whenFree<T>(run: () => Promise<T>): Promise<T> {
    this.#assertActive()
    while (this.#exclusive !== undefined) {
      await Promise.race([this.#exclusive, this.#end.promise])
      this.#assertActive()
    }
    this.#running++
    try {
      return await run()
    } finally {
      this.#running--
    }
  }

  #assertActive(): void {
    if (!this.active) {
      throw createRowhouseError('context_ended', 'This database handle belongs to a callback that has returned.')
    }
  }
}

export interface NestedScope {
  readonly scope: TransactionScope
  /** Ends the nested scope; a second call does nothing. */
  readonly leave: (how: 'release' | 'rollback') => Promise<void>
}

function outOfOrder(): Error {
  return createRowhouseError(
    'invalid_argument',
    'Transactions inside withTenant are savepoints: end the one that was begun last first.',
  )
}
