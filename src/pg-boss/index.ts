/**
 * Jobs on pg-boss 12.
 *
 * @module
 */
import pg from 'pg'
import type { JobQueue } from '../jobs/job-queue.ts'
import type { Jobs } from '../jobs/jobs.ts'

/** The one queue of pg-boss that all jobs have. */
const QUEUE = 'rowhouse'

export interface PgBossOptions {
  /** The schema of pg-boss. Default `pgboss`. */
  readonly schema?: string | undefined
}

/**
 * Lets pg-boss wake workers up for jobs. Its queue `rowhouse` must be there: `await boss.createQueue('rowhouse')`.
 *
 * SQL: `insert into pgboss.job (id, name, data, start_after, ...) values (..., 'rowhouse', '{"tenantId": "acme", "id": "..."}', ...)`
 *
 * @example
 * ```ts
 * import { PgBoss } from 'pg-boss'
 * import { createRowhouse, defineJobs } from 'rowhouse'
 * import { pgBoss, workWithPgBoss } from 'rowhouse/pg-boss'
 *
 * const rowhouse = createRowhouse({ connectionString: 'postgres://app@localhost/app' })
 * const jobs = defineJobs(rowhouse, {
 *   queue: pgBoss(),
 *   tasks: { greet: async (payload: { name: string }, job) => console.log(job.tenantId, payload.name) },
 * })
 * const boss = new PgBoss('postgres://owner@localhost/app')
 * await boss.start()
 * await boss.createQueue('rowhouse')
 * await workWithPgBoss(boss, jobs, { concurrency: 10 })
 * ```
 */
export function pgBoss({ schema = 'pgboss' }: PgBossOptions = {}): JobQueue {
  const quoted = pg.escapeIdentifier(schema)
  return {
    name: 'pg-boss',
    schema,
    requires: { relation: 'job', hint: "Start pg-boss once, and make its queue: await boss.createQueue('rowhouse')." },
    // A wake-up that finds no database comes again. Attempts end with their leases here, so pg-boss waits for a day, its
    // most; and it keeps what was never fetched for as long as anybody may have asked for.
    wakeUps: `
      insert into ${quoted}.job (id, name, data, priority, start_after, keep_until, expire_seconds, retry_limit, retry_delay,
            retry_backoff, retry_delay_max, deletion_seconds)
        select w.id, '${QUEUE}', jsonb_build_object('tenantId', p_tenant, 'id', w.id), w.priority, w.at,
            w.at + interval '10 years', 86399, 100, 1, true, 60, 3600
          from jsonb_to_recordset(p_put) w (id uuid, at timestamptz, priority integer)
        on conflict do nothing;
      delete from ${quoted}.job where name = '${QUEUE}' and id = any (p_cancel) and data ->> 'tenantId' = p_tenant
        and state < 'active';`,
  }
}

/** What working needs of pg-boss. */
export interface PgBossLike {
  work(
    name: string,
    options: {
      batchSize: number
      localConcurrency: number
      pollingIntervalSeconds: number
      burstWhenBatchFull: boolean
    },
    handler: (jobs: { readonly data: unknown; readonly signal?: AbortSignal }[]) => Promise<unknown>,
  ): Promise<string>
}

export interface PgBossWorkOptions {
  /** How many jobs at the same time: 1, or an even number. Default 10. */
  readonly concurrency?: number | undefined
  /** How often to look for jobs, 0.5 at least. Default 2. */
  readonly pollingIntervalSeconds?: number | undefined
}

/**
 * Works on jobs until pg-boss is stopped. The login of pg-boss needs its own tables only: jobs run through the pool of
 * rowhouse. Jobs are begun in pairs, since pg-boss looks again at once only after a full batch; with a concurrency of 1 it
 * begins one in each interval. Returns the id of the worker, for `boss.offWork`.
 */
export function workWithPgBoss(
  boss: PgBossLike,
  jobs: Pick<Jobs, 'work'>,
  { concurrency = 10, pollingIntervalSeconds = 2 }: PgBossWorkOptions = {},
): Promise<string> {
  const batchSize = concurrency === 1 ? 1 : 2
  const options = {
    batchSize,
    localConcurrency: Math.ceil(concurrency / batchSize),
    pollingIntervalSeconds,
    burstWhenBatchFull: true,
  }
  return boss.work(QUEUE, options, async (wakeUps) => {
    await Promise.all(wakeUps.map(({ data, signal }) => jobs.work(data, { signal })))
  })
}
