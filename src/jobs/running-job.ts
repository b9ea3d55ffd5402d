import { type Kysely, sql } from 'kysely'
import type { TenantContext } from '../context/tenant-context.ts'
import type { TenantCallback } from '../context/with-tenant.ts'
import { RowhouseError } from '../errors.ts'
import { parseStepName, parseStepResult } from './parse-job.ts'

/** An attempt at a job, as it was claimed. */
export interface ClaimedJob {
  readonly job_id: string
  readonly run_id: string
  readonly parent_id: string | null
  readonly task: string
  readonly payload: unknown
  readonly attempts: number
  readonly max_attempts: number
  readonly claim: string
  readonly lease_ms: number
  readonly user_id: string | null
}

export interface RunningJobParts {
  readonly row: ClaimedJob
  /** As the user who made the job. */
  readonly tenant: TenantContext
  /** Aborted when the worker shuts down. */
  readonly signal: AbortSignal | undefined
}

/** Steps that are done once, however often they are asked for. */
export interface Steps {
  /**
   * Returns what `fn` returns, as JSON, and runs it only when the step is not done yet. A crash between its end and the
   * record of it lets it run again, and so does a second attempt while it still runs; then the first result holds.
   *
   * Errors: what `fn` throws, which leaves the step to be done; `job_lost`; `invalid_job` when its result is no JSON.
   *
   * SQL: `select * from rowhouse.begin_step($1, $2, $3, 'charge')`, `select rowhouse.record_step($1, $2, $3, 'charge', $4)`
   */
  step<T>(name: string, fn: () => T | Promise<T>): Promise<T>
  /**
   * The same for work in the database alone, in one transaction with its record: it is done once, whatever crashes.
   */
  transaction<T>(name: string, fn: TenantCallback<any, T>): Promise<T>
}

/** The run that a job belongs to. Its steps are done once in all of its jobs. */
export interface Run extends Steps {
  readonly id: string
}

/**
 * A job at work: who it is for, what it has done already, and when to stop. `getCurrentTenant()` is its tenant, jobs
 * that are made meanwhile belong to its tenant and its run, and another tenant can't be entered. No transaction is open.
 */
export class RunningJob implements Steps {
  readonly id: string
  readonly parentId: string | null
  readonly task: string
  /** Counts from 1. */
  readonly attempt: number
  readonly maxAttempts: number
  /** The modules of the tenant, each call a transaction of its own, as the user who made the job. */
  readonly tenant: TenantContext
  /** The user of the context in which the job was made, if any. */
  readonly userId: string | null
  readonly run: Run
  /** Aborted when the worker shuts down, and when the job is lost: cancelled, or its lease could not be renewed. */
  readonly signal: AbortSignal
  readonly #claim: string
  readonly #leaseMs: number
  readonly #lost = new AbortController()

  /** @internal */
  constructor({ row, tenant, signal }: RunningJobParts) {
    this.id = row.job_id
    this.parentId = row.parent_id
    this.task = row.task
    this.attempt = row.attempts
    this.maxAttempts = row.max_attempts
    this.userId = row.user_id
    this.tenant = tenant
    this.signal = signal === undefined ? this.#lost.signal : AbortSignal.any([signal, this.#lost.signal])
    this.#claim = row.claim
    this.#leaseMs = row.lease_ms
    this.run = {
      id: row.run_id,
      step: (name, fn) => this.#step('', name, fn),
      transaction: (name, fn) => this.#transaction('', name, fn),
    }
  }

  get tenantId(): string {
    return this.tenant.tenantId
  }

  step<T>(name: string, fn: () => T | Promise<T>): Promise<T> {
    return this.#step(this.id, name, fn)
  }

  transaction<T>(name: string, fn: TenantCallback<any, T>): Promise<T> {
    return this.#transaction(this.id, name, fn)
  }

  async #step<T>(scope: string, name: string, fn: () => T | Promise<T>): Promise<T> {
    const { db } = this.tenant
    const step = parseStepName(name)
    const { rows } = await sql<{ done: boolean; result: T }>`
      select done, result from rowhouse.begin_step(${this.id}::uuid, ${this.#claim}::uuid, ${scope}, ${step})`.execute(
      db,
    )
    if (rows[0]?.done) return rows[0].result
    return this.#record(db, scope, step, await fn())
  }

  async #transaction<T>(scope: string, name: string, fn: TenantCallback<any, T>): Promise<T> {
    const step = parseStepName(name)
    return this.tenant.runContext(async (db, tenant) => {
      const { rows } = await sql<{ done: boolean; result: T }>`
        select done, result
        from rowhouse.begin_step(${this.id}::uuid, ${this.#claim}::uuid, ${scope}, ${step}, true)`.execute(db)
      if (rows[0]?.done) return rows[0].result
      return this.#record(db, scope, step, await fn(db, tenant))
    })
  }

  /** Resolves to what is recorded, which is what a later attempt gets. */
  async #record<T>(db: Kysely<any>, scope: string, step: string, result: T): Promise<T> {
    const { rows } = await sql<{ result: T }>`
      select rowhouse.record_step(${this.id}::uuid, ${this.#claim}::uuid, ${scope}, ${step},
        ${parseStepResult(result)}::jsonb) as result`.execute(db)
    return rows[0]!.result
  }

  /** Renews the lease three times in its length, until that is stopped, or the job is lost. @internal */
  keepAlive(): () => void {
    let heldUntil = performance.now() + this.#leaseMs
    let renewing = false
    const renew = async () => {
      // One that waits, for a step that holds the job in its transaction, is not joined by others.
      if (renewing) return
      renewing = true
      const sent = performance.now()
      try {
        await sql`select rowhouse.renew_job(${this.id}::uuid, ${this.#claim}::uuid)`.execute(this.tenant.db)
        heldUntil = sent + this.#leaseMs
      } catch (error) {
        // A connection that failed is no loss yet: there are two more attempts before the lease ends.
        const lost = error instanceof RowhouseError && !error.retryable
        if (lost || performance.now() >= heldUntil) this.#lost.abort(error)
      } finally {
        renewing = false
      }
      if (this.#lost.signal.aborted) clearInterval(timer)
    }
    const timer = setInterval(() => void renew(), this.#leaseMs / 3)
    timer.unref()
    return () => clearInterval(timer)
  }

  /** Records that the job is done. @internal */
  async finish(): Promise<void> {
    await sql`select rowhouse.finish_job(${this.id}::uuid, ${this.#claim}::uuid)`.execute(this.tenant.db)
  }

  /** Ends the attempt without success; resolves to whether there will be another one. @internal */
  async fail(code: string, retryAfterMs: number | null, { counts = true } = {}): Promise<boolean> {
    const { rows } = await sql<{ status: string }>`
      select rowhouse.fail_job(${this.id}::uuid, ${this.#claim}::uuid, ${code},
        make_interval(secs => ${retryAfterMs}::double precision / 1000), ${counts}) as status`.execute(this.tenant.db)
    return rows[0]!.status === 'queued'
  }
}
