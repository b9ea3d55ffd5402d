import { sql } from 'kysely'
import type { TenantExecutor } from '../context/tenant-executor.ts'
import { createRowhouseError } from '../errors.ts'

export interface LockParts {
  readonly name: string
  readonly holder: string
  readonly token: number
  readonly expiresAt: Date
  readonly leaseMs: number
}

/** A lock that this process holds until its lease ends. */
export class Lock implements AsyncDisposable {
  /** What is locked. */
  readonly name: string
  /**
   * The fencing token: larger each time the lock changes hands. A store that remembers the largest one it saw can
   * refuse a holder that was overtaken.
   */
  readonly token: number
  readonly #executor: TenantExecutor
  readonly #holder: string
  readonly #leaseMs: number
  readonly #lost = new AbortController()
  #expiresAt: Date

  /** @internal */
  constructor(executor: TenantExecutor, { name, holder, token, expiresAt, leaseMs }: LockParts) {
    this.#executor = executor
    this.name = name
    this.token = token
    this.#holder = holder
    this.#leaseMs = leaseMs
    this.#expiresAt = expiresAt
  }

  /** When the lease ends, by the clock of the database. */
  get expiresAt(): Date {
    return this.#expiresAt
  }

  /** Aborted when the lock is known to be lost; for what runs under it. */
  get signal(): AbortSignal {
    return this.#lost.signal
  }

  /**
   * Begins the lease anew. Fails with `lock_lost` when it had ended, even if nobody else holds the lock.
   *
   * SQL: `select rowhouse.renew_lock($1, $2, $3)`
   */
  async renew(options: { readonly leaseMs?: number | undefined } = {}): Promise<void> {
    const leaseMs = options.leaseMs ?? this.#leaseMs
    const { rows } = await sql<{ expires_at: Date | string | null }>`
      select rowhouse.renew_lock(${this.name}, ${this.#holder}::uuid,
        make_interval(secs => ${leaseMs}::double precision / 1000)) as expires_at`.execute(this.#executor.db)
    const expiresAt = rows[0]!.expires_at
    if (expiresAt === null) throw this.lose()
    this.#expiresAt = new Date(expiresAt)
  }

  /**
   * Gives the lock back.
   *
   * SQL: `select rowhouse.release_lock($1, $2)`
   *
   * @returns False when it had been lost.
   */
  async release(): Promise<boolean> {
    const { rows } = await sql<{ released: boolean }>`
      select rowhouse.release_lock(${this.name}, ${this.#holder}::uuid) as released`.execute(this.#executor.db)
    return rows[0]!.released
  }

  /** Aborts the signal. @internal */
  lose(): Error {
    const error = createRowhouseError('lock_lost', `The lock "${this.name}" is held no more.`)
    if (!this.#lost.signal.aborted) this.#lost.abort(error)
    return error
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.release()
  }
}
