import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'kysely'
import type { TenantExecutor } from '../context/tenant-executor.ts'
import { createRowhouseError } from '../errors.ts'
import { sweepInBatches } from '../sweep/sweep-in-batches.ts'
import { Lock } from './lock.ts'
import { parseAcquire, parseLockName, parseWithLock } from './parse-lock.ts'

/** What `locks.acquire` takes. */
export interface AcquireOptions {
  /** How long the lock is held at most without being renewed: up to a day. Default 30,000. */
  readonly leaseMs?: number | undefined
  /** How long to wait for a lock that somebody else holds. Default 0. */
  readonly waitMs?: number | undefined
  /** Ends the waiting. */
  readonly signal?: AbortSignal | undefined
}

/** What `locks.withLock` takes. */
export interface WithLockOptions extends AcquireOptions {
  /** Whether the lease is renewed while the work runs, three times in each lease. Default true. */
  readonly renew?: boolean | undefined
}

const FIRST_PAUSE_MS = 20
const LONGEST_PAUSE_MS = 1000

/**
 * Locks by which the processes of one tenant exclude each other.
 *
 * A lock is held for a lease, by the clock of the database: a process that crashed holds it until then and no longer.
 * A process that was paused may go on after its lease ended; `fence` in the transaction of a write keeps it from
 * writing. Inside `withTenant` a lock belongs to the transaction: others get it after its end at the earliest.
 */
export class Locks {
  readonly #executor: TenantExecutor

  /** @internal */
  constructor(executor: TenantExecutor) {
    this.#executor = executor
  }

  /**
   * Takes a lock; undefined when somebody else holds it and `waitMs` has passed.
   *
   * SQL: `select * from rowhouse.acquire_lock($1, $2)`
   *
   * @example
   * ```ts
   * await using lock = await acme.locks.acquire('reindex', { leaseMs: 60_000 })
   * if (lock === undefined) return
   * await lock.renew()
   * ```
   */
  async acquire(name: string, options: AcquireOptions = {}): Promise<Lock | undefined> {
    const lockName = parseLockName(name)
    const { leaseMs, waitMs, signal } = parseAcquire(options)
    const deadline = performance.now() + waitMs
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(LONGEST_PAUSE_MS, 2 * pause)) {
      signal?.throwIfAborted()
      const lock = await this.#tryAcquire(lockName, leaseMs)
      const left = deadline - performance.now()
      if (lock !== undefined || left <= 0) return lock
      // Spread at random, so that those who wait don't all come at once.
      await sleep(Math.min(left, pause * (0.5 + Math.random())), undefined, { signal })
    }
  }

  /**
   * Runs work under a lock, renews the lease meanwhile, and gives the lock back. When the lock is lost on the way, the
   * signal of the lock is aborted, and the call fails with `lock_lost` even if the work succeeded.
   *
   * Errors: `lock_held` when somebody else holds it and `waitMs` has passed; `lock_lost`; what the work throws.
   *
   * SQL: `select * from rowhouse.acquire_lock($1, $2)`, `renew_lock`, `release_lock`
   *
   * @example
   * ```ts
   * await acme.locks.withLock('nightly-import', async (lock) => {
   *   await rowhouse.withTenant('acme', async (db, tenant) => {
   *     await tenant.locks.fence(lock)
   *     await db.insertInto('invoices').values({ number: 'A-3', amount: 10 }).execute()
   *   })
   * }, { waitMs: 5000 })
   * ```
   */
  async withLock<T>(name: string, work: (lock: Lock) => Promise<T> | T, options: WithLockOptions = {}): Promise<T> {
    const { renew, ...acquireOptions } = parseWithLock(options)
    const lock = await this.acquire(name, acquireOptions)
    if (lock === undefined) {
      throw createRowhouseError('lock_held', `The lock "${name}" is held by somebody else.`)
    }
    const renewal = renew ? startRenewal(lock, acquireOptions.leaseMs) : undefined
    let result: T
    try {
      result = await work(lock)
    } catch (error) {
      await renewal?.stop()
      // The error of the work says more than one of the release, which the end of the lease replaces.
      await lock.release().catch(() => {})
      throw error
    }
    await renewal?.stop()
    if (!(await lock.release())) throw lock.lose()
    return result
  }

  /**
   * In a transaction that writes under a lock: fails with `lock_lost` unless the lock is still held, and lets nobody
   * take it before the transaction ends. What the transaction writes is so written under the lock.
   *
   * SQL: `select rowhouse.require_lock($1, $2)`
   */
  async fence({ name, token }: Pick<Lock, 'name' | 'token'>): Promise<void> {
    await sql`select rowhouse.require_lock(${name}, ${token}::bigint)`.execute(this.#executor.db)
  }

  /**
   * Deletes the rows of locks that ended more than a day ago.
   *
   * SQL: `select rowhouse.sweep_locks($1)`
   *
   * @returns How many were deleted.
   */
  async sweep({ batchSize = 1000 }: { readonly batchSize?: number | undefined } = {}): Promise<number> {
    return sweepInBatches(this.#executor.db, sql`rowhouse.sweep_locks(${batchSize})`)
  }

  async #tryAcquire(name: string, leaseMs: number): Promise<Lock | undefined> {
    const { rows } = await sql<{ holder: string; token: string; expires_at: Date | string }>`
      select holder, token, expires_at
      from rowhouse.acquire_lock(${name}, make_interval(secs => ${leaseMs}::double precision / 1000))`.execute(
      this.#executor.db,
    )
    const [row] = rows
    if (row === undefined) return undefined
    return new Lock(this.#executor, {
      name,
      holder: row.holder,
      token: Number(row.token),
      expiresAt: new Date(row.expires_at),
      leaseMs,
    })
  }
}

/** Renews the lease until it is stopped or lost. */
function startRenewal(lock: Lock, leaseMs: number): { stop: () => Promise<void> } {
  let lastRenewed = performance.now()
  let running: Promise<void> | undefined
  const renew = async () => {
    const begun = performance.now()
    try {
      await lock.renew()
      lastRenewed = begun
    } catch {
      // A connection that failed is no loss yet: there are two more attempts before the lease ends.
      if (performance.now() - lastRenewed >= leaseMs) lock.lose()
    }
  }
  const timer = setInterval(() => {
    if (lock.signal.aborted) clearInterval(timer)
    else
      running ??= renew().finally(() => {
        running = undefined
      })
  }, leaseMs / 3)
  timer.unref()
  return {
    stop: async () => {
      clearInterval(timer)
      await running
    },
  }
}
