// Jobs run as their tenant, one attempt at a time; what fails is tried again, and what is forged finds nothing.
import { sql } from 'kysely'
import { expect, test } from 'vitest'
import { defineJobs, getCurrentTenant, type RunningJob } from '../../src/index.ts'
import { ACME, GLOBEX } from '../audit/support.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { useJobs, withChangedFunction } from './support.ts'
import { drain, passTime, tableQueue, takeWakeUp, wakeUps } from './table-queue.ts'

const database = useDatabase()
const fixture = useJobs(database)
const inAcme = { tenantId: ACME }

const get = async (id: string) => (await fixture.jobs.get(id, inAcme))!

test('a job runs as the tenant and the user that it was made for, and so do those that it makes', async () => {
  const { jobs, rowhouse } = fixture
  const seen: unknown[] = []
  fixture.handler = async (payload, job) => {
    const { rows } =
      await sql`select current_setting('app.tenant_id') as tenant, current_setting('app.user_id') as by`.execute(
        job.tenant.db,
      )
    seen.push([payload, job.tenantId, getCurrentTenant(), job.userId, rows[0]])
    if (payload === 'parent') {
      await jobs.enqueue('act', 'child')
      await rowhouse.withTenant(ACME, async () => jobs.enqueue('other', 'in a transaction'))
    }
  }
  const parent = await rowhouse.withTenant(ACME, () => jobs.enqueue('act', 'parent'), { userId: 'u_1' })
  await fixture.drain()
  expect(seen.slice(0, 2)).toEqual(
    ['parent', 'child'].map((payload) => [payload, ACME, ACME, 'u_1', { tenant: ACME, by: 'u_1' }]),
  )
  // A transaction of its own has a user of its own.
  expect(seen[2]).toEqual(['in a transaction', ACME, ACME, null, { tenant: ACME, by: '' }])
  const run = (await jobs.run(parent.runId, inAcme))!
  expect(run.status).toBe('done')
  expect(run.jobs.map(({ payload, parentId, status }) => [payload, parentId, status])).toEqual([
    ['parent', null, 'done'],
    ['child', parent.id, 'done'],
    ['in a transaction', parent.id, 'done'],
  ])
  expect(await jobs.run(parent.runId, { tenantId: GLOBEX })).toBeUndefined()
  expect(getCurrentTenant()).toBeUndefined()
  expect(await wakeUps(fixture.owner)).toEqual([])
})

test('a job enters no other tenant, and holds no transaction open', async () => {
  const { jobs, rowhouse } = fixture
  const outcomes: unknown[] = []
  const attempt = async (work: () => Promise<unknown>) => {
    outcomes.push(await work().then(String, (error) => error.code))
  }
  fixture.handler = async () => {
    await attempt(() => rowhouse.withTenant(GLOBEX, async () => 'entered'))
    await attempt(() => rowhouse.query(GLOBEX, () => sql`select 1`))
    await attempt(() => rowhouse.tenant(GLOBEX).state.get('x'))
    await attempt(() => jobs.enqueue('act', 1, { tenantId: GLOBEX }))
    const { rows } = await fixture.owner.query(
      "select count(*)::int as open from pg_stat_activity where datname = current_database() and state like 'idle in%'",
    )
    outcomes.push(rows[0].open)
  }
  await jobs.enqueue('act', 1, inAcme)
  await fixture.drain()
  expect(outcomes).toEqual([...Array(4).fill('tenant_mismatch'), 0])
  // The control: outside of a job anybody may be entered.
  await attempt(() => rowhouse.withTenant(GLOBEX, async () => 'entered'))
  expect(outcomes.at(-1)).toBe('entered')
})

test('an attempt that failed is repeated later, and only its code is kept', async () => {
  const { jobs } = fixture
  fixture.handler = () => {
    throw Object.assign(new Error('a secret'), { code: 'mail_down' })
  }
  const { id } = await jobs.enqueue('act', 1, { ...inAcme, maxAttempts: 2 })
  await fixture.drain()
  expect(await get(id)).toMatchObject({ status: 'queued', attempts: 1, lastError: 'mail_down' })
  const [wakeUp] = await wakeUps(fixture.owner)
  const wait = wakeUp!.at.getTime() - Date.now()
  expect(wait).toBeGreaterThan(1000)
  expect(wait).toBeLessThan(2600)
  await passTime(fixture.owner, ACME, '3 seconds')
  await fixture.drain()
  expect(await get(id)).toMatchObject({ status: 'failed', attempts: 2, lastError: 'mail_down' })
  expect(fixture.errors.map(String)).toEqual(['Error: a secret', 'Error: a secret'])
  expect(await wakeUps(fixture.owner)).toEqual([])
  expect((await jobs.run(id, inAcme))!.status).toBe('failed')
})

test('a task says when to try again, or never', async () => {
  const asked: unknown[] = []
  const own = defineJobs(fixture.rowhouse, {
    queue: tableQueue,
    tasks: {
      picky: {
        handler: (error: string) => Promise.reject(new Error(error)),
        retryAfterMs: (attempt, error) => {
          asked.push([attempt, String(error)])
          return attempt === 1 ? 0 : null
        },
      },
    },
  })
  const { id } = await own.enqueue('picky', 'no', inAcme)
  expect(await drain(fixture.owner, own)).toBe(2)
  expect(asked).toEqual([
    [1, 'Error: no'],
    [2, 'Error: no'],
  ])
  expect(await get(id)).toMatchObject({ status: 'failed', attempts: 2 })
})

test('a worker that does not know the task leaves it to another one', async () => {
  const old = defineJobs(fixture.rowhouse, { queue: tableQueue, tasks: {} })
  const { id } = await fixture.jobs.enqueue('act', 1, inAcme)
  await drain(fixture.owner, old)
  expect(await get(id)).toMatchObject({ status: 'queued', attempts: 0, lastError: 'unknown_task' })
  await passTime(fixture.owner, ACME, '1 minute')
  await fixture.drain()
  expect(await get(id)).toMatchObject({ status: 'done', attempts: 1 })
})

test('a worker that shuts down gives the attempt back', async () => {
  const controller = new AbortController()
  fixture.handler = (_payload, job: RunningJob) =>
    new Promise((_resolve, reject) => {
      job.signal.addEventListener('abort', () => reject(job.signal.reason))
      controller.abort(new Error('bye'))
    })
  const { id } = await fixture.jobs.enqueue('once', 1, inAcme)
  await fixture.jobs.work(await takeWakeUp(fixture.owner), { signal: controller.signal })
  expect(await get(id)).toMatchObject({ status: 'queued', attempts: 0 })
  fixture.handler = () => {}
  await fixture.drain()
  expect(await get(id)).toMatchObject({ status: 'done', attempts: 1 })
})

test('a job that is cancelled while it runs is told, and records nothing more', async () => {
  let told: unknown
  fixture.handler = async (_payload, job: RunningJob) => {
    await fixture.jobs.cancel(job.id)
    await new Promise((resolve) => job.signal.addEventListener('abort', resolve))
    told = job.signal.reason
    await job.step('late', () => 1)
  }
  const { id, runId } = await fixture.jobs.enqueue('short', 1, inAcme)
  await fixture.drain()
  expect(told).toMatchObject({ code: 'job_lost' })
  expect(fixture.errors).toMatchObject([{ code: 'job_lost' }])
  expect(await get(id)).toMatchObject({ status: 'cancelled' })
  expect((await fixture.jobs.run(runId, inAcme))!.steps).toEqual([])
})

test('a job that takes longer than its lease keeps it', async () => {
  let runs = 0
  fixture.handler = async () => {
    runs++
    await new Promise((resolve) => setTimeout(resolve, 3600))
  }
  const { id } = await fixture.jobs.enqueue('short', 1, inAcme)
  const payload = await takeWakeUp(fixture.owner)
  const working = fixture.jobs.work(payload)
  await new Promise((resolve) => setTimeout(resolve, 1800))
  // The wake-up for the end of the first lease: the lease goes on, and so does the watch over it.
  expect(await fixture.drain()).toBe(1)
  expect(await wakeUps(fixture.owner)).toHaveLength(1)
  await working
  expect(runs).toBe(1)
  expect(await get(id)).toMatchObject({ status: 'done', attempts: 1 })
  expect(await wakeUps(fixture.owner)).toEqual([])
})

test('a wake-up that is forged, copied or somebody else’s finds nothing', async () => {
  const { jobs, owner } = fixture
  const ran: unknown[] = []
  fixture.handler = (payload, job) => ran.push([payload, job.tenantId])
  const { id } = await jobs.enqueue('act', 'of globex', { tenantId: GLOBEX })
  const genuine = (await takeWakeUp(owner)) as { tenantId: string; id: string }
  for (const forged of [
    undefined,
    null,
    'x',
    {},
    { tenantId: GLOBEX },
    { tenantId: "x' or true", id: genuine.id },
    { tenantId: GLOBEX, id: 'x' },
    // The id of a job is no id of a wake-up.
    { tenantId: GLOBEX, id },
    { tenantId: GLOBEX, id: crypto.randomUUID() },
    { tenantId: 'nobody', id: genuine.id },
    { tenantId: ACME, id: genuine.id },
  ]) {
    await jobs.work(forged)
  }
  expect(ran).toEqual([])
  expect(fixture.errors).toEqual([])
  await jobs.work(genuine)
  await jobs.work(genuine)
  expect(ran).toEqual([['of globex', GLOBEX]])
})

test('the control: without policies and predicate, a wake-up of another tenant finds its job', async () => {
  const { jobs, owner } = fixture
  await jobs.enqueue('act', 'of globex', { tenantId: GLOBEX })
  const { id } = (await takeWakeUp(owner)) as { id: string }
  const claimAsAcme = async () => {
    await owner.query(`begin; set local role rowhouse_owner; set local app.tenant_id = '${ACME}'`)
    const { rows } = await owner
      .query('select tenant_id from rowhouse.claim_job($1)', [id])
      .finally(() => owner.query('rollback'))
    return rows
  }
  expect(await claimAsAcme()).toEqual([])
  await withChangedFunction(
    owner,
    'claim_job',
    (source) => source.replace('j.tenant_id = v_tenant and j.wake_id', 'j.wake_id'),
    async () => {
      expect(await claimAsAcme(), 'the policies hold on their own').toEqual([])
    },
  )
  await owner.query(
    'begin; set local role rowhouse_owner; alter table rowhouse.jobs disable row level security, no force row level security; commit',
  )
  try {
    expect(await claimAsAcme(), 'the predicate holds on its own').toEqual([])
    await withChangedFunction(
      owner,
      'claim_job',
      (source) => source.replaceAll('j.tenant_id = v_tenant and ', ''),
      async () => {
        const leaked = await claimAsAcme()
        expect(leaked).toEqual([{ tenant_id: GLOBEX }])
      },
    )
  } finally {
    await owner.query(
      'begin; set local role rowhouse_owner; alter table rowhouse.jobs enable row level security, force row level security; commit',
    )
  }
})

test('a wake-up that two workers get is worked on once', needs('parallelBackends'), async () => {
  const { jobs, owner } = fixture
  let runs = 0
  fixture.handler = () => {
    runs++
  }
  const workThrice = async () => {
    await jobs.enqueue('act', 1, inAcme)
    const payload = await takeWakeUp(owner)
    runs = 0
    return Promise.allSettled([jobs.work(payload), jobs.work(payload), jobs.work(payload)])
  }
  for (let round = 0; round < 5; round++) {
    for (const { status } of await workThrice()) expect(status).toBe('fulfilled')
    expect(runs).toBe(1)
  }
  // The control: without the lock, several find the job and begin it. The first one works until there is a second.
  await withChangedFunction(
    owner,
    'claim_job',
    (source) =>
      source.replace(' for no key update', '').replace('  v_now := ', '  perform pg_sleep(0.1);\n  v_now := '),
    async () => {
      fixture.handler = async () => {
        runs++
        await expect.poll(() => runs).toBeGreaterThan(1)
      }
      await workThrice()
      expect(runs).toBeGreaterThan(1)
    },
  )
})

test('two workers share a hundred jobs of two tenants, each done once', needs('parallelBackends'), async () => {
  const { jobs } = fixture
  const done: string[] = []
  fixture.handler = async (payload, job) => {
    done.push(`${job.tenantId} ${payload}`)
    if (payload === 0) return
    await job.tenant.state.increment('done')
  }
  const all = Array.from({ length: 100 }, (_, index) => [index % 2 ? ACME : GLOBEX, index] as const)
  await Promise.all(all.map(([tenantId, index]) => jobs.enqueue('act', index, { tenantId })))
  const other = await database.connect('owner')
  await Promise.all([drain(fixture.owner, jobs), drain(other, jobs)])
  expect(done.sort()).toEqual(all.map(([tenantId, index]) => `${tenantId} ${index}`).sort())
  expect(await fixture.rowhouse.tenant(ACME).state.get('done')).toBe(50)
  expect(await fixture.rowhouse.tenant(GLOBEX).state.get('done')).toBe(49)
})

test('a wake-up that comes early waits until the job is due', async () => {
  const { jobs } = fixture
  let runs = 0
  fixture.handler = () => {
    runs++
  }
  const { id } = await jobs.enqueue('act', 1, { ...inAcme, runAt: new Date(Date.now() + 60_000) })
  const [early] = await wakeUps(fixture.owner)
  await fixture.owner.query('delete from wakes.wake_ups')
  await jobs.work(early!.payload)
  expect(runs).toBe(0)
  expect(await wakeUps(fixture.owner)).toHaveLength(1)
  await passTime(fixture.owner, ACME, '2 minutes')
  await fixture.drain()
  expect(runs).toBe(1)
  expect(await get(id)).toMatchObject({ status: 'done' })
})
