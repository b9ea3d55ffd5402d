import { AbortedTransactionError } from 'kysely'
import { createRowhouseError, mapDatabaseError } from '../errors.ts'
import type { Batch, BatchFailure, BatchOutcome, SentStatement } from './batch.ts'
import { endFailedBatch, explainFailure, taint } from './batch-failure.ts'
import type { ClientLease } from './client-lease.ts'
import type { ConnectionSource } from './connection-source.ts'
import { isDatabaseError, type QueryResultRows } from './pg-internals.ts'
import type { TransactionSettings } from './prelude.ts'
import type { SessionIdentity } from './session-identity.ts'
import { type Statement, toSentStatement } from './single-statement.ts'
import { isTransactionTag } from './statement-guard.ts'

/** Finds the database that a tenant moved to; undefined when this process does not know it. */
export type FollowTenant = (placement: string) => Promise<ConnectionSource | undefined>

/** A transaction of a session. It exists on the server from the first statement on. */
interface SessionTransaction {
  readonly settings: TransactionSettings
  /** Whether the prelude has been sent. */
  opened: boolean
  /** Why the prelude failed: the transaction never began, and every statement of it gets the same answer. */
  refusal: { readonly error: unknown } | undefined
}

/**
 * Transactions of one identity over one pooled client, which is checked out by the first statement.
 *
 * Statements run in the order of the calls. On a pipelined pool they are sent without waiting for each other's answers.
 * What a batch consists of is decided when its turn comes, so a statement that was called before `commit` is in the
 * transaction even if nobody awaited it, and nothing is ever sent without a prelude in front of it.
 */
export class TransactionSession {
  #source: ConnectionSource
  readonly #follow: FollowTenant | undefined
  readonly #identity: SessionIdentity
  readonly #signal: AbortSignal | undefined
  #transaction: SessionTransaction | undefined
  #lease: ClientLease | undefined
  /** Resolves when the next batch may be sent. */
  #turn: Promise<void> = Promise.resolve()
  /** Whether something ran on the client whose traces have not been removed. */
  #unclean = false
  #released = false
  #savepoints = 0
  /** Whether anything ran: from then on the session stays in its database. */
  #settled = false

  constructor(source: ConnectionSource, identity: SessionIdentity, signal?: AbortSignal, follow?: FollowTenant) {
    this.#source = source
    this.#follow = follow
    this.#identity = identity
    this.#signal = signal
  }

  get inTransaction(): boolean {
    return this.#transaction !== undefined
  }

  /** The login of the connection, for messages. */
  get login(): string {
    return this.#lease?.login ?? 'the login'
  }

  /** Where the session runs. */
  get source(): ConnectionSource {
    return this.#source
  }

  get processId(): number | null | undefined {
    return this.#lease?.processId
  }

  /** A name that no other savepoint of the session has. */
  createSavepointName(): string {
    return `rowhouse_${++this.#savepoints}`
  }

  /** Asks for a transaction. Nothing is sent. */
  begin({ isolationLevel, accessMode }: TransactionSettings): void {
    let { settings } = this.#identity
    if (isolationLevel !== undefined || accessMode !== undefined) {
      settings = {
        isolationLevel: isolationLevel ?? settings.isolationLevel,
        accessMode: accessMode ?? settings.accessMode,
      }
    }
    this.#transaction = { settings, opened: false, refusal: undefined }
  }

  /**
   * Runs a statement: in the transaction if there is one, else as a transaction of its own, in one round trip.
   * With `keepTraces` the latter leaves the connection as it is for the next statement of the same session.
   */
  async execute({ sql, parameters }: Statement, options: { keepTraces?: boolean } = {}): Promise<QueryResultRows> {
    const statement = toSentStatement(sql, parameters)
    const transaction = this.#transaction
    if (transaction === undefined) return this.#executeAlone(statement, options.keepTraces ?? false)
    return (await this.#executeInTransaction(transaction, statement, []))!
  }

  /** Runs statements of our own, such as savepoints, in the transaction, in one round trip. */
  async control(...statements: string[]): Promise<void> {
    await this.#executeInTransaction(this.#transaction!, undefined, statements)
  }

  /** Commits what was sent; with nothing sent there is nothing to do. */
  async commit(): Promise<void> {
    const transaction = this.#leaveTransaction()
    const outcome = await this.#sendEnd(transaction, 'commit')
    if (outcome === undefined) return
    if (transaction?.refusal !== undefined) throw transaction.refusal.error
    if (outcome.endTag === 'ROLLBACK') throw new AbortedTransactionError()
  }

  /** Rolls back what was sent. Rejects when the server did not confirm it; the connection is destroyed then. */
  async rollback(): Promise<void> {
    const transaction = this.#leaveTransaction()
    // The end of a connection rolls back as well, and its reason has been reported already.
    if (this.#lease?.unusable === undefined) await this.#sendEnd(transaction, 'rollback')
  }

  /** Asks the server to cancel the running statement. */
  async cancel(): Promise<void> {
    await this.#lease?.cancel()
  }

  /** Makes sure that the connection is not used again: what was not committed is rolled back by its end. */
  destroy(reason: unknown): void {
    this.#lease?.markUnusable(reason)
  }

  /** Gives the client back, for good. A transaction that is still open ends by the end of the connection. */
  async release(): Promise<void> {
    const lease = this.#lease
    if (this.#transaction?.opened) lease?.markUnusable(new Error('released inside a transaction'))
    if (this.#unclean && lease?.unusable === undefined) {
      const outcome = await this.#send(() => ({ before: [], cleanUp: this.#source.cleanUp }), false)
      if (outcome?.failure !== undefined) lease?.markUnusable(outcome.failure.error)
    }
    this.#released = true
    await lease?.release()
  }

  async #executeAlone(statement: SentStatement, keepTraces: boolean): Promise<QueryResultRows> {
    const cleanUp = keepTraces ? [] : this.#source.cleanUp
    this.#unclean ||= keepTraces
    const before = this.#identity.prelude(this.#identity.settings)
    const outcome = (await this.#send(() => ({ before, statement, end: 'commit', cleanUp })))!
    if (outcome.failure === undefined) this.#assertNoTransactionTag(outcome, statement.sql)
    await this.#settleEnd(outcome, cleanUp)
    return outcome.result!
  }

  async #executeInTransaction(
    transaction: SessionTransaction,
    statement: SentStatement | undefined,
    control: readonly string[],
  ): Promise<QueryResultRows | undefined> {
    let opening = false
    const outcome = (await this.#send(() => {
      if (transaction.refusal !== undefined) throw transaction.refusal.error
      opening = !transaction.opened
      transaction.opened = true
      const prelude = opening ? this.#identity.prelude(transaction.settings) : []
      return { before: control.length === 0 ? prelude : [...prelude, ...control], statement, cleanUp: [] }
    }))!
    const { failure, result } = outcome
    if (failure !== undefined) {
      if (opening && failure.phase === 'before')
        transaction.refusal ??= { error: explainFailure(failure, this.#lease!, this.#identity.role) }
      throw transaction.refusal?.error ?? mapDatabaseError(failure.error)
    }
    this.#assertNoTransactionTag(outcome, statement?.sql ?? '')
    if (outcome.status !== 'T') throw taint(this.#lease)
    return result
  }

  #leaveTransaction(): SessionTransaction | undefined {
    const transaction = this.#transaction
    this.#transaction = undefined
    return transaction
  }

  /** Ends the transaction, if by then it exists on the server. */
  async #sendEnd(
    transaction: SessionTransaction | undefined,
    end: 'commit' | 'rollback',
  ): Promise<BatchOutcome | undefined> {
    const cleanUp = this.#source.cleanUp
    const outcome = await this.#send(() => (transaction?.opened ? { before: [], end, cleanUp } : undefined), false)
    if (outcome !== undefined) await this.#settleEnd(outcome, cleanUp)
    return outcome
  }

  /** What remains to be done after a batch with `commit` or `rollback`; throws its error. */
  async #settleEnd({ failure }: BatchOutcome, cleanUp: readonly string[]): Promise<void> {
    if (failure === undefined) return
    const lease = this.#lease!
    const error = explainFailure(failure, lease, this.#identity.role)
    // Of where the session is now.
    const left = cleanUp.length > 0 ? this.#source.cleanUp : cleanUp
    await endFailedBatch(failure, lease, left, (batch) => this.#send(() => batch, false))
    throw error
  }

  #assertNoTransactionTag(outcome: BatchOutcome, sql: string): void {
    if (isTransactionTag(outcome.tag, sql)) throw taint(this.#lease)
  }

  #listening(lease: ClientLease): ClientLease {
    if (this.#identity.onNotice !== undefined) lease.listen(this.#identity.onNotice)
    return lease
  }

  #assertNotReleased(): void {
    if (this.#released) throw createRowhouseError('context_ended', 'The connection has been given back already.')
  }

  /**
   * Sends a batch when its turn comes; makes it only then, and resolves to undefined when there is nothing to send.
   * With `begins` it checks a client out if need be, and an aborted signal stops it; what only ends or cleans goes on.
   */
  async #send(createBatch: () => Batch | undefined, begins = true): Promise<BatchOutcome | undefined> {
    const previous = this.#turn
    let passTurn = () => {}
    this.#turn = new Promise((resolve) => {
      passTurn = resolve
    })
    try {
      await previous
      this.#assertNotReleased()
      if (begins) this.#signal?.throwIfAborted()
      if (this.#lease === undefined) {
        if (!begins) return undefined
        const lease = await this.#source.acquire(this.#signal)
        if (this.#released) await lease.release()
        this.#assertNotReleased()
        this.#lease = this.#listening(lease)
      }
      if (this.#lease.ready !== undefined && !this.#source.pipeline) await this.#lease.ready
      if (this.#lease.unusable !== undefined) throw mapDatabaseError(this.#lease.unusable.reason)
      const batch = createBatch()
      if (batch === undefined) return undefined
      const sending = this.#lease.send(batch)
      if (this.#source.pipeline) passTurn()
      const outcome = this.#follow === undefined ? await sending : await this.#followTenant(batch, await sending)
      this.#settled ||= outcome.failure === undefined
      return outcome
    } finally {
      passTurn()
    }
  }

  /** Sends the first batch again, to the database that the tenant moved to: it was refused, and nothing ran before it. */
  async #followTenant(batch: Batch, refused: BatchOutcome): Promise<BatchOutcome> {
    let outcome = refused
    for (let hop = 0; hop < MAX_HOPS; hop++) {
      const placement = placementOf(outcome.failure)
      if (placement === undefined) break
      // SQL of the tenant can raise the same; it is not asked where the tenant is.
      if (this.#identity.tenantId !== undefined && outcome.failure?.phase !== 'before') break
      const source = await this.#follow!(placement)
      // Statements that were sent behind it have failed already; what a session left on its connection stays there.
      if (source === undefined || this.#source.pipeline || this.#settled) break
      const lease = this.#lease!
      const ended = await lease.send({ before: [], end: 'rollback', cleanUp: this.#source.cleanUp })
      if (ended.failure !== undefined) lease.markUnusable(ended.failure.error)
      await lease.release()
      this.#lease = undefined
      this.#source = source
      this.#lease = this.#listening(await source.acquire(this.#signal))
      outcome = await this.#lease.send({ ...batch, cleanUp: batch.cleanUp.length > 0 ? source.cleanUp : [] })
    }
    return outcome
  }
}

/** Databases that know of each other in a row; more would be a circle. */
const MAX_HOPS = 8

/** The database that a tenant moved to, when that is why a batch failed. */
function placementOf(failure: BatchFailure | undefined): string | undefined {
  if (failure === undefined || !isDatabaseError(failure.error) || failure.error.code !== 'RH034') return undefined
  return failure.error.detail ?? undefined
}
