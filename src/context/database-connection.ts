import type { CompiledQuery, DatabaseConnection, Log, QueryResult, TransactionSettings } from 'kysely'
import { createRowhouseError } from '../errors.ts'
import type { ConnectionSource } from './connection-source.ts'
import { logged } from './logged.ts'
import type { QueryResultRows } from './pg-internals.ts'
import { extendStackTrace, toQueryResult } from './query-result.ts'
import type { Statement } from './single-statement.ts'

/** What the connections of a handle have in common. */
export interface ConnectionContext {
  readonly log: Log
  /** Ends the session of a backend of this database, over a connection of its own. */
  readonly terminate: (processId: number, source: ConnectionSource) => Promise<void>
}

/**
 * A connection as Kysely sees it. What a transaction is differs: on its own it is a transaction of the tenant, inside
 * `withTenant` a savepoint. Results and errors are those of Kysely's own Postgres dialect.
 */
export abstract class TenantDatabaseConnection implements DatabaseConnection {
  readonly #context: ConnectionContext
  #running = 0

  constructor(context: ConnectionContext) {
    this.#context = context
  }

  abstract begin(settings: TransactionSettings): Promise<void>
  abstract commit(): Promise<void>
  abstract rollback(): Promise<void>
  abstract release(): Promise<void>
  /** Makes sure that the connection is not used again; its transaction ends with it. */
  abstract abandon(reason: unknown): void
  protected abstract readonly processId: number | null | undefined
  protected abstract readonly source: ConnectionSource
  protected abstract readonly inTransaction: boolean
  protected abstract run(statement: Statement): Promise<QueryResultRows>
  protected abstract cancel(): Promise<void>

  async executeQuery<R>(query: CompiledQuery): Promise<QueryResult<R>> {
    return logged(this.#context.log, query, false, async () => {
      this.#running++
      try {
        return toQueryResult<R>(await this.run(query))
      } catch (error) {
        throw extendStackTrace(error, new Error())
      } finally {
        this.#running--
      }
    })
  }

  /**
   * Streams with a cursor of the database, so it needs no other package, and works on pipelined connections too.
   * Only statements that a cursor can be declared for can be streamed: select, values, with ... select.
   */
  async *streamQuery<R>(query: CompiledQuery, chunkSize: number): AsyncIterableIterator<QueryResult<R>> {
    const ownTransaction = !this.inTransaction
    if (ownTransaction) await this.begin({})
    let finished = false
    try {
      yield* this.#fetchChunks<R>(query, chunkSize, ownTransaction)
      finished = true
    } finally {
      // A cursor ends with its transaction. A stream that was left early wrote nothing.
      if (ownTransaction) await (finished ? this.commit() : this.rollback())
    }
  }

  async cancelQuery(): Promise<void> {
    if (this.#running > 0) await this.cancel()
  }

  /** The process id is known from the start of the connection. */
  async collectSessionInfo(): Promise<void> {}

  async killSession(): Promise<void> {
    const { processId, source } = this
    if (this.#running > 0 && typeof processId === 'number') await this.#context.terminate(processId, source)
  }

  async *#fetchChunks<R>(
    query: CompiledQuery,
    chunkSize: number,
    ownTransaction: boolean,
  ): AsyncIterableIterator<QueryResult<R>> {
    if (!/^[\s(]*(?:select|values|with|table)\b/i.test(query.sql)) {
      throw createRowhouseError('invalid_argument', 'Only select statements can be streamed.')
    }
    if (!Number.isSafeInteger(chunkSize) || chunkSize < 1) {
      throw createRowhouseError('invalid_argument', 'The chunk size of a stream is a positive whole number.')
    }
    const cursor = `rowhouse_cursor_${++cursors}`
    const { sql, parameters } = query
    await logged(this.#context.log, query, true, () =>
      this.run({ sql: `declare ${cursor} no scroll cursor for ${sql}`, parameters }).catch((error) => {
        throw extendStackTrace(error, new Error())
      }),
    )
    let failed = false
    try {
      for (;;) {
        const { rows } = await this.run({ sql: `fetch ${chunkSize} from ${cursor}`, parameters: [] })
        if (rows.length > 0) yield { rows: rows as R[] }
        if (rows.length < chunkSize) return
      }
    } catch (error) {
      failed = true
      throw error
    } finally {
      // The cursor ends with a transaction of its own, and with one that failed.
      if (!ownTransaction && !failed) await this.run({ sql: `close ${cursor}`, parameters: [] })
    }
  }
}

let cursors = 0
