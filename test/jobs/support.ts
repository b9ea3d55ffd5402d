import type pg from 'pg'
import { afterEach, beforeAll } from 'vitest'
import { defineJobs, type Jobs, type RunningJob, type Task } from '../../src/index.ts'
import { type BoundaryFixture, openRowhouse, useRowhouse } from '../audit/support.ts'
import type { TestDatabase } from '../setup/database.ts'
import { CREATE_TABLE_QUEUE, drain, tableQueue } from './table-queue.ts'

/** What a test lets jobs do: the handler of the moment. */
export type Handler = (payload: any, job: RunningJob) => unknown

export interface JobsFixture extends BoundaryFixture {
  jobs: Jobs<{ act: Task; other: Task; short: Task; once: Task }>
  owner: pg.Client
  /** What the task `act` does; nothing at first. */
  handler: Handler
  /** What handlers threw. */
  errors: unknown[]
  /** Works on everything that is due. */
  drain(): Promise<number>
}

/** Jobs over a queue that is one table, with the tenants acme and globex. */
export function useJobs(database: TestDatabase): JobsFixture {
  const fixture = useRowhouse(database) as JobsFixture
  const act: Handler = (payload, job) => fixture.handler(payload, job)
  beforeAll(async () => {
    fixture.owner = await database.connect('owner')
    await fixture.owner.query(CREATE_TABLE_QUEUE)
    fixture.jobs = defineJobs(fixture.rowhouse, {
      queue: tableQueue,
      tasks: {
        act,
        other: act,
        short: { handler: act, leaseMs: 1200 },
        once: { handler: act, maxAttempts: 1 },
      },
      onError: (error) => fixture.errors.push(error),
    })
    fixture.drain = () => drain(fixture.owner, fixture.jobs)
    const asOwner = openRowhouse(database, { pool: database.pool('owner', { max: 1 }), admin: undefined })
    await asOwner.installJobQueue(tableQueue)
    await asOwner.close()
    fixture.handler = () => {}
    fixture.errors = []
  })
  afterEach(async () => {
    fixture.handler = () => {}
    fixture.errors = []
    await fixture.owner.query('rollback')
    await fixture.owner.query('delete from wakes.wake_ups')
  })
  return fixture
}

/** Runs `fn` while a function of rowhouse has another source, then puts it back. */
export async function withChangedFunction<T>(
  owner: pg.Client,
  name: string,
  change: (source: string) => string,
  fn: () => Promise<T>,
): Promise<T> {
  const { rows } = await owner.query<{ source: string }>(
    "select pg_get_functiondef(oid) as source from pg_proc where pronamespace = 'rowhouse'::regnamespace and proname = $1",
    [name],
  )
  const { source } = rows[0]!
  const changed = change(source)
  if (changed === source) throw new Error(`nothing of ${name} was changed`)
  const apply = (text: string) => owner.query(`begin; set local role rowhouse_owner; ${text}; commit`)
  await apply(changed)
  try {
    return await fn()
  } finally {
    await apply(source)
  }
}
