import { setTimeout as sleep } from 'node:timers/promises'
import { type Batch, type BatchOutcome, type SentBatch, sendBatch } from './batch.ts'
import { sendCancelRequest } from './cancel-request.ts'
import { isDatabaseError, leavesSessionOpen, type PoolClient } from './pg-internals.ts'
import type { NoticeListener } from './progress.ts'
import type { ReturningClients } from './returning-clients.ts'

const CANCEL_PAUSE_MS = 100

/**
 * A client while it is checked out of the pool.
 *
 * It goes back to the pool only when it is known to be clean: idle, outside a transaction, nothing on its way. In every
 * other case it is destroyed; pg-pool itself would hand out a client with somebody's open transaction.
 */
export class ClientLease {
  readonly #client: PoolClient
  readonly #returning: ReturningClients
  readonly #waitsUntilClean: boolean
  readonly #onError = (error: unknown): void => this.markUnusable(error)
  #onNotice: NoticeListener | undefined
  #unusable: { readonly reason: unknown } | undefined
  /** Batches whose outcome is open. */
  #running = 0
  #settled = 0
  /** Resolves when no clean-up is on its way; undefined when none is. */
  #cleaning: Promise<void> | undefined
  #cancelling: Promise<void> | undefined
  #released = false

  constructor(client: PoolClient, returning: ReturningClients, { waitsUntilClean }: { waitsUntilClean: boolean }) {
    this.#client = client
    this.#returning = returning
    this.#waitsUntilClean = waitsUntilClean
    // Without a listener, a backend that dies while the client is checked out would crash the process.
    client.on('error', this.#onError)
  }

  /** Has messages of the server told until the client is given back. */
  listen(onNotice: NoticeListener): void {
    this.#onNotice = onNotice
    this.#client.on('notice', onNotice)
  }

  get login(): string {
    return this.#client.user ?? 'the login'
  }

  /** The process id of the backend, as the server or the pooler gave it. */
  get processId(): number | null {
    return this.#client.processID
  }

  /** Why the client can't be used any more; undefined while it can. */
  get unusable(): { readonly reason: unknown } | undefined {
    return this.#unusable
  }

  /** Resolves when the client may take another batch: at once, except behind a clean-up. */
  get ready(): Promise<void> | undefined {
    return this.#cleaning
  }

  /** Sends a batch; must not be called while another runs, except on a pipelined client. */
  async send(batch: Batch): Promise<BatchOutcome> {
    this.#running++
    const sent = sendBatch(this.#client, batch)
    if (batch.end !== undefined && batch.cleanUp.length > 0) this.#watchCleaning(sent)
    const outcome = await sent.outcome
    const error = outcome.failure?.error
    if (error !== undefined && !leavesClientUsable(error)) {
      // The batch may still be running on the server (query_timeout), so it stays counted.
      this.markUnusable(error)
    } else {
      this.#running--
      this.#settled++
    }
    return outcome
  }

  #watchCleaning({ outcome, completed }: SentBatch): void {
    let done = false
    const cleaning = completed.then(({ failure, status }) => {
      done = true
      // On a pipelined client the next one may be on its way already.
      if (this.#cleaning === cleaning) this.#cleaning = undefined
      // The transaction itself ended well, so its caller sees no error; the connection can't be trusted, so it goes.
      if (failure?.phase === 'clean-up') this.markUnusable(failure.error)
      else if (failure === undefined && status !== 'I') {
        this.markUnusable(new Error('still in a transaction after its end'))
      }
    })
    void outcome.then(() => {
      if (!done) this.#cleaning = cleaning
    })
  }

  /** Makes sure that the client is destroyed instead of going back to the pool. The first reason is kept. */
  markUnusable(reason: unknown): void {
    this.#unusable ??= { reason }
  }

  /** Cancels what runs now, if anything. The lease isn't given back before the server has taken the request. */
  cancel(): Promise<void> {
    if (this.#running === 0 || this.#released) return Promise.resolve()
    this.#cancelling ??= this.#cancelRunning().finally(() => {
      this.#cancelling = undefined
    })
    return this.#cancelling
  }

  /** The server forgets a request that arrives before the statement does, so it is repeated until the statement ends. */
  async #cancelRunning(): Promise<void> {
    const settled = this.#settled
    const isRunning = () => this.#settled === settled && this.#running > 0 && this.#unusable === undefined
    while (isRunning()) {
      await sendCancelRequest(this.#client)
      if (isRunning()) await sleep(CANCEL_PAUSE_MS)
    }
  }

  /** Gives the client back to the pool when it is clean, and destroys it otherwise. */
  async release(): Promise<void> {
    if (this.#released) return
    this.#released = true
    await this.#cancelling
    if (this.#cleaning === undefined || this.#running > 0 || this.#unusable !== undefined) {
      this.#giveBack()
      return
    }
    const back = this.#returning.add(
      this.#cleaning,
      () => this.#giveBack(),
      () => this.#client.connection.stream.destroy(),
    )
    if (this.#waitsUntilClean) await back
  }

  #giveBack(): void {
    this.#client.off('error', this.#onError)
    if (this.#onNotice !== undefined) this.#client.off('notice', this.#onNotice)
    if (this.#unusable === undefined && this.#running === 0 && this.#client.getTransactionStatus() === 'I') {
      this.#client.release()
      return
    }
    // What still runs would otherwise go on, and might commit, after its caller has seen an error.
    if (this.#running > 0) void cancelAbandoned(this.#client)
    this.#client.connection.stream.destroy()
    this.#client.release(true)
  }
}

/** Nobody is left to see whether the statement has ended, so it is cancelled a few times. */
async function cancelAbandoned(client: PoolClient): Promise<void> {
  for (let attempt = 1; attempt <= 3; attempt++) {
    await sendCancelRequest(client)
    await sleep(CANCEL_PAUSE_MS, undefined, { ref: false })
  }
}

/** An error of the server leaves the connection in step, unless it says that the server ends the session. */
function leavesClientUsable(error: unknown): boolean {
  return isDatabaseError(error) && leavesSessionOpen(error)
}
