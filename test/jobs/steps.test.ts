// Steps are done once: by whichever attempt, recorded once by the one that has the job.
import { sql } from 'kysely'
import { beforeAll, expect, test } from 'vitest'
import type { RunningJob } from '../../src/index.ts'
import { ACME } from '../audit/support.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { useJobs, withChangedFunction } from './support.ts'
import { passTime, takeWakeUp } from './table-queue.ts'

const database = useDatabase()
const fixture = useJobs(database)
const inAcme = { tenantId: ACME }

beforeAll(async () => {
  await fixture.owner.query(`
    create table public.charges (tenant_id text not null, id uuid not null default gen_random_uuid(), what text not null, primary key (tenant_id, id));
    select rowhouse.protect_table('public.charges')`)
})

const charge = (job: RunningJob, what: string) =>
  sql`insert into public.charges (what) values (${what})`.execute(job.tenant.db)

async function charges(what: string): Promise<number> {
  const { rows } = await fixture.rowhouse.withTenant(ACME, (db) =>
    sql<{ count: number }>`select count(*)::int as count from public.charges where what = ${what}`.execute(db),
  )
  return rows[0]!.count
}

/** Lets the attempts of one job come one after another, whatever they end with. */
async function attempts(count: number): Promise<void> {
  for (let attempt = 0; attempt < count; attempt++) {
    await fixture.drain()
    await passTime(fixture.owner, ACME, '1 hour')
  }
}

test('an attempt leaves out the steps that are done, and gets their results', async () => {
  const seen: unknown[] = []
  fixture.handler = async (_payload, job: RunningJob) => {
    const first = await job.step('first', async () => {
      await charge(job, 'first')
      return { at: new Date(0), list: [1, undefined] }
    })
    const nothing = await job.step('nothing', () => undefined)
    seen.push([job.attempt, first, nothing])
    if (job.attempt < 3) throw new Error('again')
    await job.step('last', () => charge(job, 'last').then(() => 'x'))
  }
  const { id, runId } = await fixture.jobs.enqueue('act', 1, inAcme)
  await attempts(3)
  const first = { at: '1970-01-01T00:00:00.000Z', list: [1, null] }
  // The first attempt gets what later ones get: JSON.
  expect(seen).toEqual([1, 2, 3].map((attempt) => [attempt, first, null]))
  expect([await charges('first'), await charges('last')]).toEqual([1, 1])
  const run = (await fixture.jobs.run(runId, inAcme))!
  expect(run.steps.map(({ name, jobId }) => [name, jobId])).toEqual([
    ['first', id],
    ['nothing', id],
    ['last', id],
  ])
})

test('the control: what is no step is repeated', async () => {
  fixture.handler = async (_payload, job: RunningJob) => {
    await charge(job, 'no step')
    if (job.attempt < 3) throw new Error('again')
  }
  await fixture.jobs.enqueue('act', 1, inAcme)
  await attempts(3)
  expect(await charges('no step')).toBe(3)
})

test('a step that throws is done by the next attempt', async () => {
  fixture.handler = (_payload, job: RunningJob) =>
    job.step('flaky', () => {
      if (job.attempt === 1) throw new Error('not yet')
      return charge(job, 'flaky').then(() => 1)
    })
  const { id } = await fixture.jobs.enqueue('act', 1, inAcme)
  await attempts(2)
  expect(await charges('flaky')).toBe(1)
  expect(await fixture.jobs.get(id, inAcme)).toMatchObject({ status: 'done', attempts: 2 })
})

test('a step in a transaction is done with its record, or not at all', async () => {
  fixture.handler = async (_payload, job: RunningJob) => {
    await job.transaction('write', async (db) => {
      await sql`insert into public.charges (what) values ('transaction')`.execute(db)
      if (job.attempt === 1) throw new Error('rolled back')
      return 'written'
    })
    const again = await job.transaction('write', () => 'never')
    expect(again).toBe('written')
    if (job.attempt === 2) throw new Error('after it')
  }
  const { id } = await fixture.jobs.enqueue('act', 1, inAcme)
  await attempts(3)
  expect(await charges('transaction')).toBe(1)
  expect(await fixture.jobs.get(id, inAcme)).toMatchObject({ status: 'done', attempts: 3 })
})

test('steps of two jobs are two steps, those of their run are one', async () => {
  const results: unknown[] = []
  fixture.handler = async (payload, job: RunningJob) => {
    if (payload === 'parent') {
      for (const child of [1, 2]) await fixture.jobs.enqueue('act', child)
      return
    }
    const own = await job.step('step', () => `own ${payload}`)
    const shared = await job.run.step('step', () => `shared ${payload}`)
    results.push([own, shared])
  }
  const { runId } = await fixture.jobs.enqueue('act', 'parent', inAcme)
  await fixture.drain()
  expect(results).toEqual([
    ['own 1', 'shared 1'],
    ['own 2', 'shared 1'],
  ])
  const run = (await fixture.jobs.run(runId, inAcme))!
  expect(run.steps.filter(({ jobId }) => jobId === null)).toHaveLength(1)
})

test(
  'jobs of a run that do its step at once record one result; in a transaction it is done once',
  needs('parallelBackends'),
  async () => {
    const results: string[] = []
    let executed = 0
    fixture.handler = async (payload, job: RunningJob) => {
      if (payload === 'parent') {
        await Promise.all(Array.from({ length: 6 }, (_, child) => fixture.jobs.enqueue('act', child)))
        return
      }
      results.push(await job.run.step('plain', async () => `plain ${payload}`))
      results.push(
        await job.run.transaction('strict', async (db) => {
          executed++
          await sql`insert into public.charges (what) values ('strict')`.execute(db)
          await sql`select pg_sleep(0.02)`.execute(db)
          return `strict ${payload}`
        }),
      )
    }
    const { runId } = await fixture.jobs.enqueue('act', 'parent', inAcme)
    await fixture.jobs.work(await takeWakeUp(fixture.owner))
    const payloads: unknown[] = []
    for (
      let payload = await takeWakeUp(fixture.owner);
      payload !== undefined;
      payload = await takeWakeUp(fixture.owner)
    ) {
      payloads.push(payload)
    }
    expect(payloads).toHaveLength(6)
    await Promise.all(payloads.map((payload) => fixture.jobs.work(payload)))
    expect(fixture.errors).toEqual([])
    expect(results).toHaveLength(12)
    expect(new Set(results).size).toBe(2)
    expect(executed).toBe(1)
    expect(await charges('strict')).toBe(1)
    expect((await fixture.jobs.run(runId, inAcme))!.steps.map(({ name }) => name).sort()).toEqual(['plain', 'strict'])
  },
)

test('an attempt that was overtaken records nothing', async () => {
  const { jobs, owner } = fixture
  const overtake = async () => {
    const outcomes: unknown[] = []
    fixture.handler = async (_payload, job: RunningJob) => {
      if (job.attempt > 1) {
        outcomes.push(await job.step('who', () => 'the second'))
        return
      }
      // It stalls for longer than its lease, and does not know.
      await passTime(owner, ACME, '2 minutes')
      await jobs.work(await takeWakeUp(owner))
      outcomes.push(await job.step('other', () => 'the first').catch((error) => error.code))
      outcomes.push(await job.step('who', () => 'the first').catch((error) => error.code))
    }
    const { id, runId } = await jobs.enqueue('act', 1, inAcme)
    await jobs.work(await takeWakeUp(owner))
    const run = (await jobs.run(runId, inAcme))!
    return { outcomes, steps: run.steps.map(({ name }) => name), job: (await jobs.get(id, inAcme))! }
  }
  const { outcomes, steps, job } = await overtake()
  expect(outcomes).toEqual(['the second', 'job_lost', 'job_lost'])
  expect(steps).toEqual(['who'])
  expect(job).toMatchObject({ status: 'done', attempts: 2 })
  // The control: without the fence it does.
  await withChangedFunction(
    owner,
    'hold_claim',
    (source) => source.replace(' and j.claim = p_claim', ''),
    async () => {
      expect((await overtake()).steps.sort()).toEqual(['other', 'who'])
    },
  )
})

test('a long transaction keeps the job', needs('parallelBackends'), async () => {
  fixture.handler = async (_payload, job: RunningJob) => {
    await job.transaction('long', (db) => sql`select pg_sleep(2.8)`.execute(db).then(() => 1))
    job.signal.throwIfAborted()
  }
  const { id } = await fixture.jobs.enqueue('short', 1, inAcme)
  const working = fixture.jobs.work(await takeWakeUp(fixture.owner))
  await new Promise((resolve) => setTimeout(resolve, 1600))
  // The lease has run out by now; who wants the job waits for the transaction, which has renewed it.
  await fixture.drain()
  await working
  expect(fixture.errors).toEqual([])
  expect(await fixture.jobs.get(id, inAcme)).toMatchObject({ status: 'done', attempts: 1 })
})
