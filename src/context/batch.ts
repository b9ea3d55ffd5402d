import {
  type PoolClient,
  type QueryClass,
  type QueryResultRows,
  queryClassOf,
  type RunningQuery,
  type WireConnection,
} from './pg-internals.ts'
import type { PreludeStatement } from './prelude.ts'
import { serializeStatements } from './serialize-statements.ts'

/**
 * Several statements in one network round trip.
 *
 * All of them go out in one write, each as Parse, Bind and Execute of the extended protocol, followed by one Sync. So
 * the server answers with one ReadyForQuery, which is what an unmodified node-postgres client and poolers expect. After
 * an error the server skips everything up to the Sync: a failing prelude means that the statement never runs, and a
 * failing statement means that `commit` is never reached.
 */
export interface Batch {
  /** Statements of our own that come first: the prelude of a transaction, savepoints. */
  readonly before: readonly PreludeStatement[]
  /** The user's statement; its values went through `prepareValue`. */
  readonly statement?: SentStatement | undefined
  /** `commit` or `rollback`. */
  readonly end?: 'commit' | 'rollback' | undefined
  /** Statements that remove what a transaction can leave on a connection. */
  readonly cleanUp: readonly string[]
}

export interface SentStatement {
  readonly sql: string
  readonly values: unknown[]
}

export type BatchPhase = 'before' | 'statement' | 'end' | 'clean-up'

export interface BatchFailure {
  readonly error: unknown
  /** The part of the batch that the error stopped. */
  readonly phase: BatchPhase
}

/** How a batch ended. */
export interface BatchOutcome {
  /** Undefined when everything ran. */
  readonly failure: BatchFailure | undefined
  /** The result of the user's statement. */
  readonly result: QueryResultRows | undefined
  /** The command tag of the user's statement, for example `INSERT 0 1`. */
  readonly tag: string | undefined
  /** The command tag of `commit` or `rollback`: `COMMIT` answers `ROLLBACK` when the transaction had failed. */
  readonly endTag: string | undefined
  /** The transaction status after the batch; unknown (null) after an error, until the next batch. */
  readonly status: 'I' | 'T' | 'E' | null
}

/** Sends a batch. Never rejects: a failure is part of the outcome. */
export function sendBatch(client: PoolClient, batch: Batch): Promise<BatchOutcome> {
  return new Promise((resolve) => {
    const query = new (batchQueryClass(queryClassOf(client)))(batch)
    // The client replaces `callback` to put its query_timeout around it, so every end of the query goes through it.
    query.callback = (error, result) => {
      const failed = error !== null && error !== undefined
      resolve({
        failure: failed ? { error, phase: query.phase } : undefined,
        // A result that is complete stands, even when something behind the statement failed.
        result: batch.statement === undefined ? undefined : (result ?? query._results),
        tag: query.tag,
        endTag: query.endTag,
        status: failed ? null : client.getTransactionStatus(),
      })
    }
    client.query(query)
  })
}

interface BatchQuery extends RunningQuery {
  readonly phase: BatchPhase
  readonly tag: string | undefined
  readonly endTag: string | undefined
}

const BATCH_QUERY_CLASSES = new WeakMap<QueryClass, new (batch: Batch) => BatchQuery>()

function batchQueryClass(Query: QueryClass): new (batch: Batch) => BatchQuery {
  let BatchQuery = BATCH_QUERY_CLASSES.get(Query)
  if (BatchQuery === undefined) {
    BatchQuery = createBatchQueryClass(Query)
    BATCH_QUERY_CLASSES.set(Query, BatchQuery)
  }
  return BatchQuery
}

const NO_STATEMENTS: readonly string[] = []
const END_STATEMENTS = { commit: ['commit'], rollback: ['rollback'] } as const

function createBatchQueryClass(Query: QueryClass): new (batch: Batch) => BatchQuery {
  return class extends Query implements BatchQuery {
    readonly #before: readonly PreludeStatement[]
    readonly #end: readonly string[]
    readonly #cleanUp: readonly string[]
    readonly #hasStatement: boolean
    #completed = 0
    tag: string | undefined
    endTag: string | undefined

    constructor(batch: Batch) {
      super({ text: batch.statement?.sql ?? '', values: batch.statement?.values ?? [], queryMode: 'extended' })
      this.#before = batch.before
      this.#end = batch.end === undefined ? NO_STATEMENTS : END_STATEMENTS[batch.end]
      this.#cleanUp = batch.cleanUp
      this.#hasStatement = batch.statement !== undefined
    }

    /** Which part the server is at, or stopped at. */
    get phase(): BatchPhase {
      let index = this.#completed - this.#before.length
      if (index < 0) return 'before'
      if (this.#hasStatement && index-- === 0) return 'statement'
      return index < this.#end.length ? 'end' : 'clean-up'
    }

    override submit(connection: WireConnection): Error | null {
      connection.stream.cork?.()
      try {
        writeStatements(connection, this.#before)
        if (this.#hasStatement) this.prepare(connection)
        else this.#finish(connection)
      } finally {
        connection.stream.uncork?.()
      }
      return null
    }

    override _getRows(connection: WireConnection): void {
      connection.execute({ portal: '', rows: 0 })
      this.#finish(connection)
    }

    #finish(connection: WireConnection): void {
      writeStatements(connection, this.#end)
      writeStatements(connection, this.#cleanUp)
      connection.sync()
    }

    override handleDataRow(message: unknown): void {
      if (this.#hasStatement && this.phase === 'statement') super.handleDataRow(message)
    }

    override handleCommandComplete(message: { text: string }, connection: WireConnection): void {
      const phase = this.phase
      if (phase === 'statement') {
        this.tag = message.text
        super.handleCommandComplete(message, connection)
      } else if (phase === 'end') {
        this.endTag = message.text
      }
      this.#completed++
    }

    override handleEmptyQuery(): void {
      this.#completed++
    }

    override handleCopyInResponse(): void {
      // Unreachable: COPY FROM STDIN is refused before it is sent. Answering here would leave the protocol out of step.
    }
  }
}

function writeStatements(connection: WireConnection, statements: readonly PreludeStatement[]): void {
  if (statements.length > 0 && connection.stream.writable) connection.stream.write(serializeStatements(statements))
}
