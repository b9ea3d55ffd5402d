import type pg from 'pg'
import { createRowhouseError } from '../errors.ts'
import { BackgroundWork } from './background-work.ts'
import { ClientLease } from './client-lease.ts'
import { explainConnectError } from './explain-error.ts'
import { type PoolClient, queryClassOf } from './pg-internals.ts'
import { CLEAN_UP_OWN, CLEAN_UP_SHARED } from './prelude.ts'
import { ReturningClients } from './returning-clients.ts'

export interface ConnectionSourceOptions {
  readonly pool: pg.Pool
  /** Whether rowhouse made the pool: then it also ends it, and may reset every session setting. */
  readonly owned: boolean
  readonly pipeline: boolean
}

/** After a connection could not be opened ahead, for how long none is. */
const SPARE_PAUSE_MS = 10_000

/** Hands out clients of a pool as leases. */
export class ConnectionSource {
  /** Whether statements may be sent before the one in front of them has been answered. */
  readonly pipeline: boolean
  /** What goes with every commit and rollback. */
  readonly cleanUp: readonly string[]
  readonly #pool: pg.Pool
  readonly #owned: boolean
  readonly #returning = new ReturningClients()
  /** Connections that are opened ahead. */
  readonly #spares = new BackgroundWork()
  /** When the next one may be. */
  #nextSpareAt = 0

  constructor({ pool, owned, pipeline }: ConnectionSourceOptions) {
    this.#pool = pool
    this.#owned = owned
    this.pipeline = pipeline
    // Settings that an onConnect hook made are the application's, even on a pool that rowhouse made.
    this.cleanUp = owned && !('onConnect' in pool.options) ? CLEAN_UP_OWN : CLEAN_UP_SHARED
    // The pool reports the death of idle clients here; it has removed them already. Without a listener Node would exit.
    pool.on('error', ignore)
  }

  /** Options to make one more connection with, outside the pool. */
  get clientOptions(): pg.ClientConfig {
    const { options } = this.#pool
    // The password is not enumerable, so a spread would lose it.
    return { ...options, ...('password' in options ? { password: options.password as string } : {}) }
  }

  /** Checks a client out; waits while all are in use. Stops waiting when the signal aborts. */
  async acquire(signal?: AbortSignal): Promise<ClientLease> {
    signal?.throwIfAborted()
    if (this.#pool.idleCount === 0) {
      const returning = this.#returning.next()
      if (returning !== undefined) {
        this.#openSpare()
        // Opening a connection takes far longer than cleaning one.
        await returning
      }
    }
    const connecting = this.#pool.connect().then((client) => client as unknown as PoolClient)
    let client: PoolClient
    try {
      client = signal === undefined ? await connecting : await orAborted(connecting, signal)
    } catch (error) {
      if (signal?.aborted) throw error
      throw explainConnectError(error, this.#pool.options.max)
    }
    if (typeof queryClassOf(client)?.prototype.prepare !== 'function' || client.getTransactionStatus === undefined) {
      client.release()
      throw createRowhouseError('invalid_argument', 'The pool must be one of pg 8.23 or later, and not of pg-native.')
    }
    // The application may count the clients of a pool that it made, so there a release waits for the clean-up.
    return new ClientLease(client, this.#returning, { waitsUntilClean: !this.#owned })
  }

  /**
   * Opens one more connection if the pool has room: who comes again right away, while the connection of the last
   * transaction is being cleaned, finds another one.
   */
  #openSpare(): void {
    const pool = this.#pool
    if (pool.ending || pool.totalCount >= pool.options.max || performance.now() < this.#nextSpareAt) return
    this.#nextSpareAt = Number.POSITIVE_INFINITY
    const opened = new Promise<void>((resolve) => {
      pool.connect((error, _client, release) => {
        this.#nextSpareAt = error === undefined ? 0 : performance.now() + SPARE_PAUSE_MS
        release()
        resolve()
      })
    })
    this.#spares.add(opened)
  }

  /** Ends the pool if rowhouse made it; of another one, nothing is in use afterwards. */
  async close(): Promise<void> {
    await this.#spares.settled()
    await this.#returning.allBack()
    if (this.#owned && !this.#pool.ending) await this.#pool.end()
  }
}

function ignore(): void {}

/** The client, or the reason of the abort; a client that arrives later goes straight back. */
async function orAborted(connecting: Promise<PoolClient>, signal: AbortSignal): Promise<PoolClient> {
  let abort: (() => void) | undefined
  const aborted = new Promise<never>((_, reject) => {
    abort = () => {
      connecting.then((client) => client.release()).catch(ignore)
      reject(signal.reason)
    }
    signal.addEventListener('abort', abort, { once: true })
  })
  try {
    return await Promise.race([connecting, aborted])
  } finally {
    if (abort !== undefined) signal.removeEventListener('abort', abort)
  }
}
