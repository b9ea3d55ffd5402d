import { AsyncLocalStorage } from 'node:async_hooks'
import { type Kysely, sql } from 'kysely'
import { getAmbientTenant, getCurrentTenant, runAsTenant } from '../context/current-tenant.ts'
import { assertOwnRow } from '../context/own-row.ts'
import {
  createRowhouseError,
  RowhouseError,
  TenantInactiveError,
  TenantNotFoundError,
  TenantSuspendedError,
} from '../errors.ts'
import type { Rowhouse } from '../rowhouse.ts'
import { readJob, readRun } from './job-rows.ts'
import type {
  DefineJobsOptions,
  EnqueuedJob,
  EnqueueOptions,
  JobState,
  PayloadOf,
  RunState,
  Task,
  TaskOptions,
} from './job-types.ts'
import {
  type ParsedTask,
  parseEnqueue,
  parseJobId,
  parsePayload,
  parseTasks,
  parseWakeUp,
  readPayload,
} from './parse-job.ts'
import { type ClaimedJob, RunningJob } from './running-job.ts'

const currentJob = new AsyncLocalStorage<RunningJob>()

/** When a worker that does not know the task leaves the job to one that does. */
const UNKNOWN_TASK_RETRY_MS = 30_000

/**
 * Work of tenants that outlives the request which asked for it. A job made inside a tenant runs inside it, at least once,
 * with steps that are done once; a suspended tenant's jobs wait until it is resumed, and an erased one's are gone.
 */
export class Jobs<Tasks extends Record<string, Task> = Record<string, Task>> {
  readonly #rowhouse: Rowhouse
  readonly #options: DefineJobsOptions<Tasks>
  readonly #tasks: Map<string, ParsedTask>

  /** @internal */
  constructor(rowhouse: Rowhouse, options: DefineJobsOptions<Tasks>) {
    this.#rowhouse = rowhouse
    this.#options = options
    this.#tasks = parseTasks(options.tasks)
  }

  /**
   * Lets rowhouse wake workers up by the queue library: once, after `rowhouse.migrate()` and after the library made its
   * tables, as the login that owns them. Harmless when it is done.
   *
   * Errors: `job_queue_missing`, `missing_privilege`.
   *
   * SQL: `create function graphile_worker.rowhouse_wake_ups(...) ... security definer`, executable by rowhouse alone
   */
  install(): Promise<void> {
    return this.#rowhouse.installJobQueue(this.#options.queue)
  }

  /**
   * Makes a job. Inside `withTenant` it is part of that transaction: rolled back, there is none. Outside it is a transaction
   * of its own. Inside a job, the new one belongs to the same run.
   *
   * Errors: `no_tenant_context`, `invalid_job`, `job_queue_missing`, and those of the tenant.
   *
   * SQL: `select * from rowhouse.enqueue_job('graphile-worker', 'sendInvoice', '{"number": "A-1"}', ...)`
   *
   * @example
   * ```ts
   * const jobs = defineJobs(rowhouse, {
   *   queue: { name: 'mine', schema: 'my_queue', wakeUps: '', requires: { relation: 'wake_ups', hint: '' } },
   *   tasks: { sendInvoice: async (payload: { number: string }, job) => job.tenant.track('invoice.sent', payload) },
   * })
   * await rowhouse.withTenant('acme', async (db) => {
   *   await db.insertInto('invoices').values({ number: 'A-1', amount: 120 }).execute()
   *   await jobs.enqueue('sendInvoice', { number: 'A-1' }, { key: 'A-1' })
   * })
   * await jobs.enqueue('sendInvoice', { number: 'A-0' }, { tenantId: 'acme', runAt: new Date('2027-01-01') })
   * ```
   */
  async enqueue<Name extends keyof Tasks & string>(
    task: Name,
    payload: PayloadOf<Tasks[Name]>,
    options: EnqueueOptions = {},
  ): Promise<EnqueuedJob> {
    const { runAt = null, priority, maxAttempts, key = null, ifWaiting, tenantId } = parseEnqueue(options)
    const known = this.#tasks.get(task)
    if (known === undefined) throw createRowhouseError('invalid_job', `There is no task ${JSON.stringify(task)}.`)
    const json = parsePayload(task, known.payload, payload)
    const { db, tenantId: id, job } = this.#enter(tenantId)
    const { rows } = await sql<{ tenant_id: string; job_id: string; run_id: string; created: boolean }>`
      select tenant_id, job_id, run_id, created
      from rowhouse.enqueue_job(${this.#options.queue.name}, ${task}, ${json}::jsonb, ${runAt}::timestamptz, ${priority},
        ${maxAttempts ?? known.maxAttempts}, ${key}::text, ${ifWaiting === 'replace'}, ${job?.id ?? null}::uuid,
          ${known.leaseMs})`.execute(db)
    const row = rows[0]!
    assertOwnRow({ tenantId: id }, row, 'rowhouse.jobs')
    return { id: row.job_id, runId: row.run_id, created: row.created }
  }

  /**
   * Cancels a job that is not finished. The signal of one that runs is aborted within a third of its lease, and it can't
   * record steps any more.
   *
   * SQL: `select rowhouse.cancel_job($1)`
   *
   * @returns Whether there was one.
   */
  async cancel(jobId: string, { tenantId }: { readonly tenantId?: string | undefined } = {}): Promise<boolean> {
    const { rows } = await sql<{ cancelled: boolean }>`
      select rowhouse.cancel_job(${parseJobId(jobId)}::uuid) as cancelled`.execute(this.#enter(tenantId).db)
    return rows[0]!.cancelled
  }

  /** How a job of the tenant stands. */
  async get(jobId: string, options: { readonly tenantId?: string | undefined } = {}): Promise<JobState | undefined> {
    const { db, tenantId } = this.#enter(options.tenantId)
    return readJob(db, tenantId, parseJobId(jobId))
  }

  /** How a run of the tenant stands: its jobs and the steps that are done. */
  async run(runId: string, options: { readonly tenantId?: string | undefined } = {}): Promise<RunState | undefined> {
    const { db, tenantId } = this.#enter(options.tenantId)
    return readRun(db, tenantId, parseJobId(runId))
  }

  /**
   * Works on the job that a wake-up is for, for adapters. What the handler throws is recorded and told to `onError`;
   * this rejects only when the database could not be asked, so that the library tries again.
   *
   * SQL: `select * from rowhouse.claim_job($1)`, then `finish_job` or `fail_job`
   */
  async work(wakeUp: unknown, { signal }: { readonly signal?: AbortSignal | undefined } = {}): Promise<void> {
    const parsed = parseWakeUp(wakeUp)
    if (parsed === undefined) return
    await runAsTenant(parsed.tenantId, () => this.#work(parsed.tenantId, parsed.id, signal))
  }

  async #work(tenantId: string, wakeId: string, signal: AbortSignal | undefined): Promise<void> {
    let row: ClaimedJob | undefined
    try {
      row = await this.#claim(tenantId, wakeId)
    } catch (error) {
      // Dropped: the jobs of a tenant that is resumed wake up anew, and one that was erased has none.
      if (mayNotWork(error)) return
      this.#options.onError?.(error, undefined)
      // The library writes down what it gets, so that is no more than a code.
      throw new Error(`The job could not be looked at: ${codeOf(error)}`)
    }
    if (row === undefined) return
    const task = this.#tasks.get(row.task)
    const tenant = this.#rowhouse.tenant(tenantId, row.user_id === null ? {} : { userId: row.user_id })
    const job = new RunningJob({ row, tenant, signal })
    const stop = job.keepAlive()
    try {
      if (task === undefined) {
        await job.fail('unknown_task', UNKNOWN_TASK_RETRY_MS, { counts: false })
        return
      }
      const payload = readPayload(row.task, task.payload, row.payload)
      await currentJob.run(job, () => task.handler(payload, job))
      await job.finish()
    } catch (error) {
      await this.#fail(job, task, error, signal?.aborted === true)
    } finally {
      stop()
    }
  }

  async #claim(tenantId: string, wakeId: string): Promise<ClaimedJob | undefined> {
    const db = this.#rowhouse.kysely(tenantId).withoutPlugins()
    const { rows } = await sql<ClaimedJob & { tenant_id: string }>`
      select * from rowhouse.claim_job(${wakeId}::uuid)`.execute(db)
    for (const row of rows) assertOwnRow({ tenantId }, row, 'rowhouse.jobs')
    return rows[0]
  }

  async #fail(job: RunningJob, task: ParsedTask | undefined, error: unknown, shutsDown: boolean): Promise<void> {
    let willRetry = false
    try {
      const wait =
        error instanceof RowhouseError && error.code === 'invalid_job' ? null : this.#retryAfterMs(job, task, error)
      // An attempt that the worker gave up is given back.
      willRetry = await job.fail(codeOf(error), shutsDown ? 0 : wait, { counts: !shutsDown })
    } catch {
      // Lost, or the tenant may not work, or the database is gone: the wake-up at the end of the lease decides.
    }
    const { tenantId, id: jobId, attempt } = job
    this.#options.onError?.(error, { tenantId, jobId, task: job.task, attempt, willRetry })
  }

  #retryAfterMs(job: RunningJob, task: ParsedTask | undefined, error: unknown): number | null {
    if (task?.retryAfterMs !== undefined) return task.retryAfterMs(job.attempt, error)
    // Not all at the same moment.
    return Math.min(1000 * 2 ** job.attempt, 3_600_000) * (1 + Math.random() / 4)
  }

  /** Joins the transaction of the surrounding `withTenant`, where there is one. */
  #enter(given: string | undefined): { db: Kysely<any>; tenantId: string; job: RunningJob | undefined } {
    const tenantId = given ?? getCurrentTenant()
    if (tenantId === undefined) {
      throw createRowhouseError('no_tenant_context', 'There is no tenant: no surrounding withTenant, and no tenantId.')
    }
    const current = currentJob.getStore()
    const job = current?.tenantId === tenantId ? current : undefined
    const asUser = getAmbientTenant() === undefined && job?.userId ? { userId: job.userId } : {}
    return { db: this.#rowhouse.kysely(tenantId, asUser).withoutPlugins(), tenantId, job }
  }
}

/**
 * Defines what jobs do. They are kept in tables of the tenant; a queue library, with its workers, only says when to look.
 * Processes that make jobs and processes that work on them define the same tasks.
 *
 * @example
 * ```ts
 * import { createRowhouse, defineJobs, defineTask } from 'rowhouse'
 * import { graphileWorker } from 'rowhouse/graphile-worker'
 * import * as z from 'zod'
 *
 * const rowhouse = createRowhouse({ connectionString: 'postgres://app@localhost/app' })
 * const jobs = defineJobs(rowhouse, {
 *   queue: graphileWorker(),
 *   tasks: {
 *     importDocuments: defineTask({
 *       payload: z.object({ url: z.url() }),
 *       handler: async ({ url }, job) => {
 *         const text = await job.step('fetch', async () => (await fetch(url, { signal: job.signal })).text())
 *         await job.transaction('write', (db) => db.insertInto('pages').values({ url, text }).execute())
 *       },
 *     }),
 *   },
 *   onError: (error, attempt) => console.error(attempt?.task, error),
 * })
 * await jobs.enqueue('importDocuments', { url: 'https://example.com' }, { tenantId: 'acme' })
 * ```
 */
export function defineJobs<Tasks extends Record<string, Task>>(
  rowhouse: Rowhouse<any>,
  options: DefineJobsOptions<Tasks>,
): Jobs<Tasks> {
  return new Jobs(rowhouse, options)
}

/** A task whose handler gets what its schema makes of payloads. */
export function defineTask<Payload, Input = Payload>(task: TaskOptions<Payload, Input>): TaskOptions<Payload, Input> {
  return task
}

function mayNotWork(error: unknown): boolean {
  return [TenantSuspendedError, TenantInactiveError, TenantNotFoundError].some((known) => error instanceof known)
}

/** What may be told of an error: a code or a name, no message. */
function codeOf(error: unknown): string {
  const { code, name } = (error ?? {}) as { code?: unknown; name?: unknown }
  const told = [code, name].find((value) => typeof value === 'string' && /^[A-Za-z0-9_]{1,100}$/.test(value))
  return (told as string | undefined) ?? 'error'
}
