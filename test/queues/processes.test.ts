// The queue outlives processes: what one that was killed held comes back, and its place does not hold up others.
import { type ChildProcess, fork } from 'node:child_process'
import { join } from 'node:path'
import { afterEach, beforeAll, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { provisionFor, QueueDriver, useRowhouse } from './support.ts'

const database = useDatabase({ needs: ['parallelBackends'] })
const fixture = useRowhouse(database)
const children: ChildProcess[] = []
beforeAll(async () => {
  await provisionFor(fixture.rowhouse, 'killed', 'alive', 'p-1', 'p-2', 'p-3')
  const owner = await database.connect('owner')
  await owner.query(`
    create table public.log (tenant_id text not null, at bigint generated always as identity, began boolean not null, primary key (tenant_id, at));
    select rowhouse.protect_table('public.log')`)
})
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
})

function start(...arguments_: string[]): Promise<{ child: ChildProcess; said: string }> {
  const child = fork(join(import.meta.dirname, 'queue-process.ts'), [database.url('app'), ...arguments_])
  children.push(child)
  return new Promise((resolve, reject) => {
    child.once('message', (said) => resolve({ child, said: String(said) }))
    child.once('exit', (code) => reject(new Error(`the process ended with ${code}`)))
  })
}

test('the slot of a process that was killed comes back when its lease ends', async () => {
  await fixture.rowhouse.queues.define('held', { slots: 1 })
  const { child } = await start('killed', 'held', 'hold', '{"leaseMs": 1000}')
  const waiting = fixture.rowhouse.tenant('alive').queue('held').acquire({ deadlineMs: 50_000 })
  child.kill('SIGKILL')
  const slot = await waiting
  expect(await slot.release()).toBe(true)
})

test('the control: while the process lives it keeps its slot', async () => {
  await fixture.rowhouse.queues.define('kept', { slots: 1 })
  await start('killed', 'kept', 'hold', '{"leaseMs": 2000}')
  const waiting = fixture.rowhouse.tenant('alive').queue('kept').acquire({ deadlineMs: 5000 })
  await expect(waiting).rejects.toMatchObject({ code: 'queue_timeout' })
})

test('a process that was killed while it waited holds nobody up, and its ticket can go on elsewhere', async () => {
  await fixture.rowhouse.queues.define('place', { slots: 1 })
  const held = await fixture.rowhouse.tenant('alive').queue('place').acquire()
  const { child, said: ticket } = await start('killed', 'place', 'wait', '{"keepMs": 4000, "deadlineMs": 60000}')
  child.kill('SIGKILL')
  const killed = fixture.rowhouse.tenant('killed').queue('place')
  expect((await killed.position(ticket)).status).toBe('waiting')
  // It is first, and gets the slot; nobody renews it, so the next one gets it.
  const waiting = fixture.rowhouse.tenant('alive').queue('place').acquire({ deadlineMs: 50_000 })
  await held.release()
  const slot = await waiting
  expect((await killed.position(ticket)).status).toBe('gone')
  await slot.release()

  const again = await fixture.rowhouse.tenant('alive').queue('place').acquire()
  const other = await start('killed', 'place', 'wait', '{"keepMs": 5000, "deadlineMs": 60000}')
  other.child.kill('SIGKILL')
  const adopted = killed.ticket(other.said).wait()
  await again.release()
  expect((await adopted).ticket).toBe(other.said)
  await (await adopted).release()
})

test('four processes never use more slots than there are, and all requests are served', async () => {
  await fixture.rowhouse.queues.define('shared', { slots: 3 })
  await Promise.all(['p-1', 'p-2', 'p-3', 'p-1'].map((tenant) => start(tenant, 'shared', 'work', '{"requests": 25}')))
  const owner = await database.connect('owner')
  const rows: { at: string; began: boolean }[] = []
  for (const tenant of ['p-1', 'p-2', 'p-3']) {
    await owner.query(`begin; set local app.tenant_id = '${tenant}'`)
    rows.push(...(await owner.query('select at, began from public.log')).rows)
    await owner.query('commit')
  }
  rows.sort((a, b) => Number(a.at) - Number(b.at))
  let atOnce = 0
  let most = 0
  for (const { began } of rows) {
    atOnce += began ? 1 : -1
    most = Math.max(most, atOnce)
  }
  expect(rows.filter(({ began }) => began)).toHaveLength(100)
  expect(most).toBeLessThanOrEqual(3)
  expect(most).toBeGreaterThan(1)
  const driver = await QueueDriver.open(database, 'shared')
  expect(await driver.tickets()).toEqual([])
  expect(await driver.differences()).toEqual([])
})
