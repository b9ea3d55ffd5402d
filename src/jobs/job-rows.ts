import { type Kysely, sql } from 'kysely'
import { assertOwnRow } from '../context/own-row.ts'
import type { JobState, JobStatus, RunState } from './job-types.ts'

interface JobRow {
  readonly tenant_id: string
  readonly job_id: string
  readonly run_id: string
  readonly parent_id: string | null
  readonly task: string
  readonly payload: unknown
  readonly job_key: string | null
  readonly priority: number
  readonly status: JobStatus
  readonly attempts: number
  readonly max_attempts: number
  readonly run_at: Date
  readonly user_id: string | null
  readonly last_error: string | null
  readonly created_at: Date
  readonly started_at: Date | null
  readonly finished_at: Date | null
}

export async function readJob(db: Kysely<any>, tenantId: string, jobId: string): Promise<JobState | undefined> {
  const { rows } = await sql<JobRow>`
    select * from rowhouse.jobs where tenant_id = ${tenantId} and job_id = ${jobId}::uuid`.execute(db)
  return rows.map((row) => toJob(tenantId, row))[0]
}

export async function readRun(db: Kysely<any>, tenantId: string, runId: string): Promise<RunState | undefined> {
  const { rows } = await sql<JobRow>`
    select * from rowhouse.jobs where tenant_id = ${tenantId} and run_id = ${runId}::uuid
    order by created_at, job_id`.execute(db)
  if (rows.length === 0) return undefined
  const steps = await sql<{ tenant_id: string; name: string; scope: string; recorded_at: Date }>`
    select tenant_id, name, scope, recorded_at from rowhouse.job_steps
    where tenant_id = ${tenantId} and run_id = ${runId}::uuid order by recorded_at, name`.execute(db)
  const jobs = rows.map((row) => toJob(tenantId, row))
  return {
    id: runId,
    status: jobs.some(({ finishedAt }) => finishedAt === null)
      ? 'running'
      : jobs.some(({ status }) => status === 'failed')
        ? 'failed'
        : 'done',
    jobs,
    steps: steps.rows.map((row) => {
      assertOwnRow({ tenantId }, row, 'rowhouse.job_steps')
      return { name: row.name, jobId: row.scope === '' ? null : row.scope, recordedAt: new Date(row.recorded_at) }
    }),
  }
}

function toJob(tenantId: string, row: JobRow): JobState {
  assertOwnRow({ tenantId }, row, 'rowhouse.jobs')
  return {
    id: row.job_id,
    runId: row.run_id,
    parentId: row.parent_id,
    task: row.task,
    payload: row.payload,
    key: row.job_key,
    priority: row.priority,
    status: row.status,
    attempts: row.attempts,
    maxAttempts: row.max_attempts,
    runAt: new Date(row.run_at),
    userId: row.user_id,
    lastError: row.last_error,
    createdAt: new Date(row.created_at),
    startedAt: row.started_at === null ? null : new Date(row.started_at),
    finishedAt: row.finished_at === null ? null : new Date(row.finished_at),
  }
}
