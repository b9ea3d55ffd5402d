// A worker that is killed loses its job when its lease ends; the next one does what was not done.
import { type ChildProcess, fork } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, expect, test } from 'vitest'
import { defineJobs } from '../../src/index.ts'
import { ACME } from '../audit/support.ts'
import { useDatabase } from '../setup/database.ts'
import { useJobs } from './support.ts'
import { tableQueue } from './table-queue.ts'

const database = useDatabase({ needs: ['parallelBackends'] })
const fixture = useJobs(database)
const children: ChildProcess[] = []
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
})

/** Long enough that a worker which is alive renews it on a busy machine. */
const leaseMs = 2000

async function start(hangs: boolean): Promise<ChildProcess> {
  const program = join(import.meta.dirname, 'job-process.ts')
  const child = fork(program, [database.url('app'), database.url('owner'), hangs ? 'yes' : 'no', `${leaseMs}`])
  children.push(child)
  await said(child, 'ready')
  return child
}

async function said(child: ChildProcess, what: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    child.on('message', (message) => message === what && resolve())
    child.once('exit', (code) => reject(new Error(`the process ended with ${code}`)))
  })
}

test('another worker takes the job of one that was killed, and leaves out its steps', async () => {
  const jobs = defineJobs(fixture.rowhouse, {
    queue: tableQueue,
    tasks: { count: { handler: () => {}, leaseMs } },
  })
  const child = await start(true)
  const atWork = said(child, 'at work')
  const { id } = await jobs.enqueue('count', null, { tenantId: ACME })
  await atWork
  const state = fixture.rowhouse.tenant(ACME).state

  // The control: a worker that lives keeps its job, however long it takes.
  await start(false)
  await sleep(2.5 * leaseMs)
  expect(await jobs.get(id, { tenantId: ACME })).toMatchObject({ status: 'running', attempts: 1 })

  child.kill('SIGKILL')
  await expect.poll(async () => (await jobs.get(id, { tenantId: ACME }))!.status).toBe('done')
  expect(await jobs.get(id, { tenantId: ACME })).toMatchObject({ attempts: 2 })
  expect([await state.get('before'), await state.get('after')]).toEqual([1, 1])
})

test('a job whose worker was killed in its last attempt has failed', async () => {
  const jobs = defineJobs(fixture.rowhouse, {
    queue: tableQueue,
    tasks: { count: { handler: () => {}, leaseMs, maxAttempts: 1 } },
  })
  const child = await start(true)
  const atWork = said(child, 'at work')
  const { id } = await jobs.enqueue('count', null, { tenantId: ACME })
  await atWork
  child.kill('SIGKILL')
  await start(false)
  await expect.poll(async () => (await jobs.get(id, { tenantId: ACME }))!.status).toBe('failed')
  expect(await jobs.get(id, { tenantId: ACME })).toMatchObject({ attempts: 1, lastError: 'job_lost' })
})
