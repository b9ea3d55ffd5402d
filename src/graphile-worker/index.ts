/**
 * Jobs on Graphile Worker 0.16 and later.
 *
 * @module
 */
import pg from 'pg'
import type { JobQueue } from '../jobs/job-queue.ts'
import type { Jobs } from '../jobs/jobs.ts'

/** The one task of Graphile Worker that all jobs have. */
const TASK = 'rowhouse'

export interface GraphileWorkerOptions {
  /** The schema of Graphile Worker. Default `graphile_worker`. */
  readonly schema?: string | undefined
}

/**
 * Lets Graphile Worker wake workers up for jobs.
 *
 * SQL: `select graphile_worker.add_job('rowhouse', '{"tenantId": "acme", "id": "..."}', run_at => ..., job_key => ...)`
 *
 * @example
 * ```ts
 * import { run } from 'graphile-worker'
 * import { createRowhouse, defineJobs } from 'rowhouse'
 * import { graphileTasks, graphileWorker } from 'rowhouse/graphile-worker'
 *
 * const rowhouse = createRowhouse({ connectionString: 'postgres://app@localhost/app' })
 * const jobs = defineJobs(rowhouse, {
 *   queue: graphileWorker(),
 *   tasks: { greet: async (payload: { name: string }, job) => console.log(job.tenantId, payload.name) },
 * })
 * const runner = await run({ connectionString: 'postgres://owner@localhost/app', taskList: graphileTasks(jobs) })
 * await runner.promise
 * ```
 */
export function graphileWorker({ schema = 'graphile_worker' }: GraphileWorkerOptions = {}): JobQueue {
  const quoted = pg.escapeIdentifier(schema)
  return {
    name: 'graphile-worker',
    schema,
    requires: {
      relation: '_private_jobs',
      hint: 'Let Graphile Worker make its tables first: npx graphile-worker --schema-only.',
    },
    // Its lower priorities are sooner. By the key the wake-up can be taken back, and is put once.
    wakeUps: `
      perform ${quoted}.add_job('${TASK}', json_build_object('tenantId', p_tenant, 'id', w.id), run_at => w.at,
          job_key => concat('rowhouse:', p_tenant, ':', w.id), priority => -w.priority)
        from jsonb_to_recordset(p_put) w (id uuid, at timestamptz, priority integer);
      perform ${quoted}.remove_job(concat('rowhouse:', p_tenant, ':', w.id)) from unnest(p_cancel) w (id);`,
  }
}

/** What a task needs of the helpers of Graphile Worker. */
export interface GraphileHelpersLike {
  readonly abortSignal?: AbortSignal | undefined
}

/**
 * The task list that works on jobs; spread it into one with tasks of your own. The login of the worker needs the tables
 * of Graphile Worker only: jobs run through the pool of rowhouse.
 */
export function graphileTasks(
  jobs: Pick<Jobs, 'work'>,
): Record<typeof TASK, (payload: unknown, helpers: GraphileHelpersLike) => Promise<void>> {
  return { [TASK]: (payload, { abortSignal }) => jobs.work(payload, { signal: abortSignal }) }
}
