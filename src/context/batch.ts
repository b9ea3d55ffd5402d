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
 *
 * A Flush follows `commit`, so that its answer does not wait for the clean-up behind it: the caller goes on while the
 * server cleans the connection, which goes back to the pool only after that.
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
  /** The transaction status after the batch; null where it is not known: after an error, and before the clean-up. */
  readonly status: 'I' | 'T' | 'E' | null
}

/** What has been sent. Neither promise rejects: a failure is part of the outcome. */
export interface SentBatch {
  /** As soon as it is certain: with the answer to `commit` or `rollback`, else when everything has been answered. */
  readonly outcome: Promise<BatchOutcome>
  /** When everything has been answered, the clean-up too. */
  readonly completed: Promise<BatchOutcome>
}

/** Sends a batch. */
export function sendBatch(client: PoolClient, batch: Batch): SentBatch {
  const query = new (batchQueryClass(queryClassOf(client)))(batch)
  const describe = (failure: BatchFailure | undefined, status: BatchOutcome['status']): BatchOutcome => ({
    failure,
    // A result that is complete stands, even when something behind the statement failed.
    result: batch.statement === undefined ? undefined : query._results,
    tag: query.tag,
    endTag: query.endTag,
    status,
  })
  const outcome = Promise.withResolvers<BatchOutcome>()
  const completed = Promise.withResolvers<BatchOutcome>()
  query.onEnd = () => outcome.resolve(describe(undefined, null))
  // The client replaces `callback` to put its query_timeout around it, so every end of the query goes through it.
  query.callback = (error) => {
    const failed = error !== null && error !== undefined
    const failure = failed ? { error, phase: query.phase } : undefined
    const whole = describe(failure, failed ? null : client.getTransactionStatus())
    outcome.resolve(whole)
    completed.resolve(whole)
  }
  client.query(query)
  return { outcome: outcome.promise, completed: completed.promise }
}

interface BatchQuery extends RunningQuery {
  /** Called when the server has answered `commit` or `rollback`. */
  onEnd: () => void
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

const NO_VALUES: unknown[] = []
const NO_STATEMENTS: readonly string[] = []
const END_STATEMENTS = { commit: ['commit'], rollback: ['rollback'] } as const

function createBatchQueryClass(Query: QueryClass): new (batch: Batch) => BatchQuery {
  return class extends Query implements BatchQuery {
    readonly #before: readonly PreludeStatement[]
    readonly #end: readonly string[]
    readonly #cleanUp: readonly string[]
    readonly #hasStatement: boolean
    #completed = 0
    #unreadable = false
    tag: string | undefined
    endTag: string | undefined
    onEnd = () => {}

    constructor(batch: Batch) {
      super(batch.statement?.sql ?? '', batch.statement?.values ?? NO_VALUES)
      this.queryMode = 'extended'
      this.#before = batch.before
      this.#end = batch.end === undefined ? NO_STATEMENTS : END_STATEMENTS[batch.end]
      this.#cleanUp = batch.cleanUp
      this.#hasStatement = batch.statement !== undefined
    }

    /** Which part the server is at, or stopped at. */
    get phase(): BatchPhase {
      if (this.#unreadable) return 'statement'
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
      if (this.#end.length > 0 && this.#cleanUp.length > 0) connection.flush()
      writeStatements(connection, this.#cleanUp)
      connection.sync()
    }

    override handleDataRow(message: unknown): void {
      if (!this.#hasStatement || this.phase !== 'statement') return
      super.handleDataRow(message)
      // A type parser threw: node-postgres reports that when everything has been answered.
      if (this._canceledDueToError) this.#unreadable = true
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
      if (phase === 'end') this.onEnd()
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
