// Jobs are made in the transaction of their tenant, or not at all; the queue gets a wake-up and nothing else.
import { expect, test } from 'vitest'
import * as z from 'zod'
import { defineJobs, defineTask } from '../../src/index.ts'
import { ACME, GLOBEX, inTransaction, openRowhouse } from '../audit/support.ts'
import { useDatabase } from '../setup/database.ts'
import { useJobs } from './support.ts'
import { tableQueue, wakeUps } from './table-queue.ts'

const database = useDatabase()
const fixture = useJobs(database)

const waiting = () => wakeUps(fixture.owner)

test('a job is made with its transaction, or not at all', async () => {
  const { rowhouse, jobs } = fixture
  const rolledBack = rowhouse.withTenant(ACME, async () => {
    await jobs.enqueue('act', { number: 1 })
    throw new Error('no')
  })
  await expect(rolledBack).rejects.toThrow('no')
  expect(await waiting()).toEqual([])

  // The control: outside of the transaction it stays.
  await expect(
    rowhouse.withTenant(ACME, async () => {
      await new Promise<void>((resolve, reject) => {
        // Without the context of the callback.
        fixture.app
          .query(`begin; set local role rowhouse_app; set local app.tenant_id = '${ACME}';
            select rowhouse.enqueue_job('table', 'act', '{}'); commit`)
          .then(() => resolve(), reject)
      })
      throw new Error('no')
    }),
  ).rejects.toThrow('no')
  expect(await waiting()).toHaveLength(1)
  await fixture.owner.query('delete from wakes.wake_ups')

  const { id, runId } = await rowhouse.withTenant(ACME, async () => {
    const made = await jobs.enqueue('act', { number: 2 })
    expect(await waiting(), 'nobody sees it before the commit').toEqual([])
    expect(await jobs.get(made.id)).toMatchObject({ status: 'queued' })
    return made
  })
  expect(runId).toBe(id)
  expect(await waiting()).toHaveLength(1)
  expect(await jobs.get(id, { tenantId: ACME })).toMatchObject({
    id,
    runId,
    parentId: null,
    task: 'act',
    payload: { number: 2 },
    status: 'queued',
    attempts: 0,
    maxAttempts: 10,
  })
})

test('the queue learns the tenant and a random id for one use, and nothing of the job', async () => {
  const made = await fixture.jobs.enqueue('act', { secret: 'x' }, { tenantId: ACME, key: 'k' })
  const { rows } = await fixture.owner.query('select * from wakes.wake_ups')
  expect(rows).toHaveLength(1)
  const { id, payload } = rows[0]
  expect(payload).toEqual({ tenantId: ACME, id })
  expect(id).not.toBe(made.id)
})

test('time, priority and attempts', async () => {
  const runAt = new Date('2030-05-01T12:00:00.000Z')
  const { id } = await fixture.jobs.enqueue('once', null, { tenantId: ACME, runAt })
  expect((await waiting())[0]!.at).toEqual(runAt)
  expect(await fixture.jobs.get(id, { tenantId: ACME })).toMatchObject({ runAt, maxAttempts: 1, payload: null })
  const order: unknown[] = []
  fixture.handler = (payload) => order.push(payload)
  for (const priority of [0, 5, -5]) await fixture.jobs.enqueue('act', priority, { tenantId: ACME, priority })
  await fixture.drain()
  expect(order).toEqual([5, 0, -5])
})

test('of a key one job waits, of each tenant and task', async () => {
  const { jobs } = fixture
  const first = await jobs.enqueue('act', 1, { tenantId: ACME, key: 'daily' })
  const others = await Promise.all([
    jobs.enqueue('act', 2, { tenantId: GLOBEX, key: 'daily' }),
    jobs.enqueue('other', 3, { tenantId: ACME, key: 'daily' }),
  ])
  expect([first, ...others].map(({ created }) => created)).toEqual([true, true, true])

  const replaced = await jobs.enqueue('act', 4, { tenantId: ACME, key: 'daily', runAt: new Date('2030-01-01') })
  expect(replaced).toEqual({ ...first, created: false })
  expect(await jobs.get(first.id, { tenantId: ACME })).toMatchObject({ payload: 4, runAt: new Date('2030-01-01') })
  const kept = await jobs.enqueue('act', 5, { tenantId: ACME, key: 'daily', ifWaiting: 'keep' })
  expect(kept).toEqual({ ...first, created: false })
  expect(await waiting()).toHaveLength(3)
  expect(await jobs.get(first.id, { tenantId: ACME })).toMatchObject({ payload: 4 })
  expect(await jobs.get(others[0].id, { tenantId: GLOBEX })).toMatchObject({ payload: 2 })
  expect(await jobs.get(others[0].id, { tenantId: ACME })).toBeUndefined()
})

test('many at once with one key are one job, and a new one once that has begun', async () => {
  const { jobs } = fixture
  const made = await Promise.all(
    Array.from({ length: 20 }, (_, index) => jobs.enqueue('act', index, { tenantId: ACME, key: 'many' })),
  )
  expect(new Set(made.map(({ id }) => id)).size).toBe(1)
  expect(made.filter(({ created }) => created)).toHaveLength(1)
  expect(await waiting()).toHaveLength(1)
  let during: { id: string; created: boolean } | undefined
  fixture.handler = async () => {
    fixture.handler = () => {}
    during = await jobs.enqueue('act', 'again', { key: 'many' })
  }
  await fixture.drain()
  expect(during).toMatchObject({ created: true })
  expect(during!.id).not.toBe(made[0]!.id)
})

test('a job that is cancelled is not begun', async () => {
  const { jobs } = fixture
  const { id } = await jobs.enqueue('act', 1, { tenantId: ACME })
  expect(await jobs.cancel(id, { tenantId: GLOBEX })).toBe(false)
  expect(await jobs.cancel(id, { tenantId: ACME })).toBe(true)
  expect(await jobs.cancel(id, { tenantId: ACME })).toBe(false)
  expect(await waiting()).toEqual([])
  expect(await jobs.get(id, { tenantId: ACME })).toMatchObject({ status: 'cancelled' })
})

test('bad input is refused with a reason', async () => {
  const { jobs } = fixture
  await expect(jobs.enqueue('act', 1)).rejects.toMatchObject({ code: 'no_tenant_context' })
  for (const [options, message] of [
    [{ key: '' }, 'key is empty'],
    [{ priority: 1.5 }, 'priority is not a whole number'],
    [{ maxAttempts: 0 }, 'maxAttempts is less than 1'],
    [{ runAt: new Date('no') }, 'runAt is not a valid Date'],
    [{ delay: 5 }, 'delay'],
  ] as const) {
    const enqueued = jobs.enqueue('act', 1, { tenantId: ACME, ...(options as object) })
    await expect(enqueued).rejects.toMatchObject({ code: 'invalid_job', message: expect.stringContaining(message) })
  }
  await expect(jobs.enqueue('nothing' as 'act', 1, { tenantId: ACME })).rejects.toMatchObject({ code: 'invalid_job' })
  await expect(jobs.enqueue('act', undefined, { tenantId: ACME })).rejects.toMatchObject({ code: 'invalid_job' })
  await expect(jobs.enqueue('act', 'x'.repeat(1_048_577), { tenantId: ACME })).rejects.toMatchObject({
    code: 'invalid_job',
  })
  const call = (sql: string) =>
    inTransaction(fixture.app, { role: 'rowhouse_app', tenantId: ACME, rollback: true }, () => fixture.app.query(sql))
  for (const [sql, message] of [
    ["'table', '', '1'", 'name of a task'],
    ["'table', 'act', null", 'null included'],
    ["'table', 'act', '1', null, 40000", 'a priority'],
    ["'table', 'act', '1', null, 0, 0", '1 to 1000 attempts'],
    ["'table', 'act', '1', null, 0, 1, ''", 'a key'],
    ["'table', 'act', '1', 'infinity'", 'due at some time'],
    ["'table', 'act', '1', p_parent => gen_random_uuid()", 'does not exist'],
    ["'table', 'act', '1', p_lease_ms => 5", 'a lease'],
  ] as const) {
    await expect(call(`select rowhouse.enqueue_job(${sql})`)).rejects.toMatchObject({
      code: 'RH075',
      message: expect.stringContaining(message),
    })
  }
})

test('a payload has the shape that its schema says, and errors do not repeat it', async () => {
  const seen: unknown[] = []
  const typed = defineJobs(fixture.rowhouse, {
    queue: tableQueue,
    tasks: {
      add: defineTask({
        payload: z.object({ amount: z.number(), day: z.iso.date().transform((day) => new Date(day)) }),
        handler: ({ amount, day }) => seen.push([amount + 1, day.getTime()]),
      }),
    },
  })
  const wrong = typed.enqueue('add', { amount: 'secret' } as never, { tenantId: ACME })
  await expect(wrong).rejects.toMatchObject({ code: 'invalid_job', message: expect.not.stringContaining('secret') })
  await typed.enqueue('add', { amount: 1, day: '2026-01-02' }, { tenantId: ACME })
  const [wakeUp] = await waiting()
  await typed.work(wakeUp!.payload)
  expect(seen).toEqual([[2, Date.UTC(2026, 0, 2)]])
})

test('the application reaches the queue through rowhouse alone', async () => {
  const call = (sql: string) =>
    inTransaction(fixture.app, { role: 'rowhouse_app', tenantId: ACME, rollback: true }, () => fixture.app.query(sql))
  await expect(call('select * from wakes.wake_ups')).rejects.toMatchObject({ code: '42501' })
  await expect(call("select wakes.rowhouse_wake_ups('globex', '[]', '{}')")).rejects.toMatchObject({ code: '42501' })
  await expect(call("select rowhouse.register_job_queue('mine', 'public')")).rejects.toMatchObject({ code: '42501' })
  await expect(call('select * from rowhouse.job_queues')).rejects.toMatchObject({ code: '42501' })
  // Another tenant's job is no reason for a wake-up.
  const { id } = await fixture.jobs.enqueue('act', 1, { tenantId: GLOBEX, runAt: new Date('2030-01-01') })
  const before = await waiting()
  await inTransaction(fixture.app, { role: 'rowhouse_app', tenantId: ACME }, () =>
    fixture.app.query('select rowhouse.send_wake_ups(array[$1::uuid])', [id]),
  )
  expect(await waiting()).toEqual(before)
  // The control: with the grant the application writes wake-ups for anybody.
  await fixture.owner.query(`grant usage on schema wakes to rowhouse_app;
    grant execute on function wakes.rowhouse_wake_ups(text, jsonb, uuid[]) to rowhouse_app`)
  await call("select wakes.rowhouse_wake_ups('globex', '[]', '{}')")
  await fixture.owner.query(`revoke execute on function wakes.rowhouse_wake_ups(text, jsonb, uuid[]) from rowhouse_app;
    revoke usage on schema wakes from rowhouse_app`)
})

test('a function of the library that would run as rowhouse_owner is not called', async () => {
  const { owner, jobs } = fixture
  await owner.query('alter function wakes.rowhouse_wake_ups(text, jsonb, uuid[]) security invoker')
  try {
    await expect(jobs.enqueue('act', 1, { tenantId: ACME })).rejects.toMatchObject({ code: 'job_queue_missing' })
  } finally {
    await owner.query('alter function wakes.rowhouse_wake_ups(text, jsonb, uuid[]) security definer')
  }
  await jobs.enqueue('act', 1, { tenantId: ACME })
})

test('installing asks for what is missing, and can be repeated', async () => {
  const asOwner = openRowhouse(database, { pool: database.pool('owner', { max: 1 }), admin: undefined })
  const missing = defineJobs(asOwner, {
    queue: { ...tableQueue, name: 'none', schema: 'nowhere' },
    tasks: { act: () => {} },
  })
  await expect(missing.install()).rejects.toMatchObject({ code: 'job_queue_missing', hint: tableQueue.requires.hint })
  await expect(missing.enqueue('act', 1, { tenantId: ACME })).rejects.toMatchObject({ code: 'job_queue_missing' })
  const there = defineJobs(asOwner, { queue: tableQueue, tasks: {} })
  await there.install()
  await there.install()
  await asOwner.close()
  const asApp = openRowhouse(database, { admin: undefined })
  await expect(asApp.installJobQueue(tableQueue)).rejects.toMatchObject({ code: 'missing_privilege' })
  await asApp.close()
})
