// A suspended tenant's jobs wait until it is resumed; an erased one's are gone; finished ones go after their retention.
import { expect, test } from 'vitest'
import type { RunningJob } from '../../src/index.ts'
import { useDatabase } from '../setup/database.ts'
import { useJobs } from './support.ts'
import { passTime, takeWakeUp, wakeUps } from './table-queue.ts'

const database = useDatabase()
const fixture = useJobs(database)
let number = 0

async function provision(tier = 'professional'): Promise<string> {
  const tenantId = `t-${++number}`
  await fixture.rowhouse.tenants.provision(tenantId, { tier })
  return tenantId
}

test('jobs of a suspended tenant are not begun, and go on when it is resumed', async () => {
  const { jobs, rowhouse, owner } = fixture
  const tenantId = await provision()
  const ran: unknown[] = []
  fixture.handler = (payload, job) => ran.push([payload, job.attempt])
  await jobs.enqueue('act', 'due', { tenantId })
  const later = await jobs.enqueue('act', 'later', { tenantId, runAt: new Date(Date.now() + 3_600_000) })
  await rowhouse.tenants.suspend(tenantId)
  await expect(jobs.enqueue('act', 'refused', { tenantId })).rejects.toMatchObject({ code: 'tenant_suspended' })
  expect(await fixture.drain()).toBe(1)
  expect(ran).toEqual([])
  expect(fixture.errors, 'which is no error').toEqual([])
  expect(await wakeUps(owner)).toHaveLength(1)

  await rowhouse.tenants.resume(tenantId)
  expect(await wakeUps(owner), 'the one that is not due has its wake-up still').toHaveLength(2)
  expect(await fixture.drain()).toBe(1)
  expect(ran).toEqual([['due', 1]])
  await passTime(owner, tenantId, '2 hours')
  await fixture.drain()
  expect(ran).toEqual([
    ['due', 1],
    ['later', 1],
  ])
  expect(await jobs.get(later.id, { tenantId })).toMatchObject({ status: 'done' })
})

test('the control: without the trigger of the registry they stay asleep', async () => {
  const { jobs, rowhouse, owner } = fixture
  const tenantId = await provision()
  await jobs.enqueue('act', 1, { tenantId })
  await rowhouse.tenants.suspend(tenantId)
  await fixture.drain()
  const trigger = (what: string) =>
    owner.query(
      `begin; set local role rowhouse_owner; alter table rowhouse.tenants ${what} trigger rowhouse_wake_jobs; commit`,
    )
  await trigger('disable')
  await rowhouse.tenants.resume(tenantId).finally(() => trigger('enable'))
  expect(await fixture.drain()).toBe(0)
  // Mended by the next one.
  await rowhouse.tenants.suspend(tenantId)
  await rowhouse.tenants.resume(tenantId)
  expect(await fixture.drain()).toBe(1)
})

test('a tenant that is suspended while its job runs: the job is told, and the attempt does not count', async () => {
  const { jobs, rowhouse, owner } = fixture
  const tenantId = await provision()
  const seen: unknown[] = []
  fixture.handler = async (_payload, job: RunningJob) => {
    if (seen.length > 0) {
      seen.push(job.attempt)
      return
    }
    await rowhouse.tenants.suspend(tenantId)
    await new Promise((resolve) => job.signal.addEventListener('abort', resolve))
    seen.push(job.signal.reason.code)
    await job.tenant.state.set('x', 1)
  }
  const { id } = await jobs.enqueue('short', 1, { tenantId, maxAttempts: 1 })
  await jobs.work(await takeWakeUp(owner))
  expect(seen).toEqual(['tenant_suspended'])
  expect(fixture.errors).toMatchObject([{ code: 'tenant_suspended' }])
  // The wake-up for the end of the lease.
  await expect.poll(() => fixture.drain()).toBe(1)
  await rowhouse.tenants.resume(tenantId)
  await fixture.drain()
  expect(seen).toEqual(['tenant_suspended', 1])
  expect(await jobs.get(id, { tenantId })).toMatchObject({ status: 'done' })
})

test('an erased tenant leaves no job, and its wake-ups find nothing', async () => {
  const { jobs, rowhouse, owner } = fixture
  const tenantId = await provision()
  let runs = 0
  fixture.handler = async (_payload, job: RunningJob) => {
    runs++
    await job.step('step', () => 'personal')
  }
  await jobs.enqueue('act', { name: 'Ada' }, { tenantId })
  await fixture.drain()
  await jobs.enqueue('act', { name: 'Ada' }, { tenantId })
  await jobs.enqueue('act', { name: 'Ada' }, { tenantId, runAt: new Date(Date.now() + 3_600_000) })
  const receipt = await rowhouse.tenants.erase(tenantId)
  expect(receipt.tables).toMatchObject({ 'rowhouse.jobs': 3, 'rowhouse.job_steps': 1 })
  expect(await fixture.drain()).toBe(1)
  await owner.query('update wakes.wake_ups set at = now()')
  expect(await fixture.drain()).toBe(1)
  expect(runs).toBe(1)
  expect(fixture.errors).toEqual([])
  expect(await wakeUps(owner)).toEqual([])
})

test('a queue library that was removed keeps nobody from being resumed', async () => {
  const { jobs, rowhouse, owner } = fixture
  const tenantId = await provision()
  await jobs.enqueue('act', 1, { tenantId })
  await rowhouse.tenants.suspend(tenantId)
  await fixture.drain()
  await owner.query('alter function wakes.rowhouse_wake_ups(text, jsonb, uuid[]) rename to gone')
  try {
    await rowhouse.tenants.resume(tenantId)
    await expect(jobs.enqueue('act', 2, { tenantId })).rejects.toMatchObject({ code: 'job_queue_missing' })
  } finally {
    await owner.query('alter function wakes.gone(text, jsonb, uuid[]) rename to rowhouse_wake_ups')
  }
})

test('finished jobs are swept after the retention of the tenant, not while their run goes on', async () => {
  const { jobs, rowhouse, owner } = fixture
  const tenants = { free: await provision('free'), enterprise: await provision('enterprise'), own: await provision() }
  await rowhouse.tenant(tenants.own).settings.change({ retentionDays: { jobs: 3 } })
  fixture.handler = async (payload, job: RunningJob) => {
    await job.step('step', () => 1)
    if (payload === 'goes on') await jobs.enqueue('act', 'later', { runAt: new Date(Date.now() + 86_400_000 * 1000) })
  }
  for (const tenantId of Object.values(tenants)) {
    await jobs.enqueue('act', 'ends', { tenantId })
    await jobs.enqueue('act', 'goes on', { tenantId })
  }
  await fixture.drain()
  const swept = async () =>
    Object.fromEntries(
      await Promise.all(
        Object.entries(tenants).map(async ([name, tenantId]) => [name, (await rowhouse.sweep({ tenantId }))[0]!.jobs]),
      ),
    )
  const pass = async (days: number) => {
    for (const tenantId of Object.values(tenants)) await passTime(owner, tenantId, `${days} days`)
  }
  expect(await swept()).toEqual({ free: 0, enterprise: 0, own: 0 })
  await pass(4)
  expect(await swept()).toEqual({ free: 0, enterprise: 0, own: 1 })
  await pass(27)
  expect(await swept()).toEqual({ free: 1, enterprise: 0, own: 0 })
  await pass(335)
  expect(await swept()).toEqual({ free: 0, enterprise: 1, own: 0 })
  expect(await swept()).toEqual({ free: 0, enterprise: 0, own: 0 })
})
