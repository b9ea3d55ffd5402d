import type * as z from 'zod'
import type { JobQueue } from './job-queue.ts'
import type { RunningJob } from './running-job.ts'

/** Does the work of a job. What it returns is not kept. */
export type JobHandler<Payload> = (payload: Payload, job: RunningJob) => unknown | Promise<unknown>

/** A task with more than its handler. */
export interface TaskOptions<Payload, Input = Payload> {
  /** Checks payloads, when a job is made and when it is begun. */
  readonly payload?: z.ZodType<Payload, Input> | undefined
  readonly handler: JobHandler<Payload>
  /** How often a job is begun at most, unless it says so itself. Default 10. */
  readonly maxAttempts?: number | undefined
  /** How long a worker that died holds a job: 100 to 86,400,000. While it lives it renews its lease. Default 60,000. */
  readonly leaseMs?: number | undefined
  /**
   * When to try again after an attempt that failed; null: never. Default: after 2, 4, 8, ... seconds, an hour at most.
   */
  readonly retryAfterMs?: ((attempt: number, error: unknown) => number | null) | undefined
}

/** What jobs of one name do. */
export type Task<Payload = any, Input = any> = JobHandler<Payload> | TaskOptions<Payload, Input>

/** What is given to make a job of a task. */
export type PayloadOf<T> =
  T extends TaskOptions<infer _Payload, infer Input> ? Input : T extends JobHandler<infer Payload> ? Payload : never

/** An attempt that failed. */
export interface FailedAttempt {
  readonly tenantId: string
  readonly jobId: string
  readonly task: string
  readonly attempt: number
  /** Whether there will be another one. */
  readonly willRetry: boolean
}

export interface DefineJobsOptions<Tasks extends Record<string, Task>> {
  /** The library that wakes workers up. */
  readonly queue: JobQueue
  readonly tasks: Tasks
  /**
   * Told what handlers throw. The database keeps only its code, and the queue library nothing. Also told, without an
   * attempt, why a wake-up could not be looked at.
   */
  readonly onError?: ((error: unknown, attempt: FailedAttempt | undefined) => void) | undefined
}

/** What `jobs.enqueue` takes. */
export interface EnqueueOptions {
  /** Default: the tenant of the surrounding `withTenant` or job. */
  readonly tenantId?: string | undefined
  /** When it is due. Default: now. */
  readonly runAt?: Date | undefined
  /** Higher is sooner, among jobs that are due: -32,767 to 32,767. Default 0. */
  readonly priority?: number | undefined
  /** How often it is begun at most: 1 to 1000. Default: what the task says. */
  readonly maxAttempts?: number | undefined
  /** Of jobs of a tenant with the same task and key, one waits at a time. */
  readonly key?: string | undefined
  /** Where a job of this key waits: replace its payload, time and priority, or keep them. Default `replace`. */
  readonly ifWaiting?: 'replace' | 'keep' | undefined
}

export interface EnqueuedJob {
  readonly id: string
  /** That of the job in which it was made, or its own. */
  readonly runId: string
  /** False when one of the same key waited. */
  readonly created: boolean
}

export type JobStatus = 'queued' | 'running' | 'done' | 'failed' | 'cancelled'

/** A job as the database has it. */
export interface JobState {
  readonly id: string
  readonly runId: string
  /** The job in which it was made. */
  readonly parentId: string | null
  readonly task: string
  readonly payload: unknown
  readonly key: string | null
  readonly priority: number
  readonly status: JobStatus
  readonly attempts: number
  readonly maxAttempts: number
  readonly runAt: Date
  readonly userId: string | null
  /** The code of the error that ended the latest attempt that failed. */
  readonly lastError: string | null
  readonly createdAt: Date
  readonly startedAt: Date | null
  readonly finishedAt: Date | null
}

/** A run: a job, the jobs that it made, and so on, with their steps. */
export interface RunState {
  readonly id: string
  /** `running` while a job of it is not finished, else `failed` when one of them failed, else `done`. */
  readonly status: 'running' | 'failed' | 'done'
  /** In the order in which they were made. */
  readonly jobs: readonly JobState[]
  /** Those that are done. `jobId` null: of the run as a whole. */
  readonly steps: readonly { readonly name: string; readonly jobId: string | null; readonly recordedAt: Date }[]
}
