// A suspension holds in every process at once: nothing that begins after it returned is accepted anywhere.
import type pg from 'pg'
import { afterEach, beforeAll, expect, test } from 'vitest'
import { asTenant, protect, provision } from '../protect/support.ts'
import { useDatabase } from '../setup/database.ts'
import { type Seen, SuspendedProcesses } from './suspended-processes.ts'

const database = useDatabase({ needs: ['parallelBackends'] })
const ROUNDS = 3
let owner: pg.Client
let running: SuspendedProcesses | undefined

beforeAll(async () => {
  owner = await database.connect('owner')
  await owner.query('create table notes (tenant_id text not null, v int)')
  await protect(owner, 'notes')
})
afterEach(() => running?.stop())

/** What the processes saw from the suspension on, and when that had returned. */
async function suspended(tenantId: string): Promise<{ returned: number; seen: Seen[] }> {
  await running!.until('accepted')
  await owner.query('select rowhouse.suspend_tenant($1)', [tenantId])
  const { rows } = await owner.query('select extract(epoch from clock_timestamp())::float8 * 1000 as returned')
  return { returned: rows[0].returned, seen: await running!.until('refused') }
}

test('no statement of a transaction that begins after it is accepted, in any process', {
  timeout: 60_000,
}, async () => {
  await provision(owner, 'acme', 'globex')
  running = new SuspendedProcesses({
    url: database.url('app'),
    tenantId: 'acme',
    processes: 3,
    connections: 4,
    mode: 'checked',
  })
  for (let round = 0; round < ROUNDS; round++) {
    const { returned, seen } = await suspended('acme')
    expect(seen).toHaveLength(3)
    for (const { lastBegin, errors } of seen) {
      expect(lastBegin).toBeLessThan(returned)
      expect(errors).toEqual([])
    }
    // Nothing is accepted later either, and other tenants work on.
    expect((await running.until('refused')).map(({ accepted }) => accepted)).toEqual([0, 0, 0])
    await asTenant(owner, 'globex', (c) => c.query('insert into notes (v) values (1)'))
    await owner.query("select rowhouse.resume_tenant('acme')")
  }
})

test('negative control: reads that do not ask whether the tenant may work go on in every process', async () => {
  await provision(owner, 'initech')
  running = new SuspendedProcesses({
    url: database.url('app'),
    tenantId: 'initech',
    processes: 2,
    connections: 2,
    mode: 'unchecked',
  })
  await running.until('accepted')
  await owner.query("select rowhouse.suspend_tenant('initech')")
  const { rows } = await owner.query('select extract(epoch from clock_timestamp())::float8 * 1000 as returned')
  await running.report()
  for (const { lastBegin, refused } of await running.until('accepted')) {
    expect(lastBegin).toBeGreaterThan(rows[0].returned)
    expect(refused).toBe(0)
  }
})
