// Retention: days by tier, by table and by tenant; swept in small batches, by as many processes as one likes.
import { type ChildProcess, fork } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { SweepProgress, SweptTenant } from '../../src/index.ts'
import { inTransaction, useRowhouse } from '../audit/support.ts'
import { withChangedFunction } from '../jobs/support.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'

const database = useDatabase()
const fixture = useRowhouse(database)
let owner: pg.Client
beforeAll(async () => {
  owner = await database.connect('owner')
})

/** Runs a statement of rowhouse_owner for a tenant. */
async function asOwner(tenantId: string, statement: string): Promise<pg.QueryResult> {
  return inTransaction(owner, { role: 'rowhouse_owner', tenantId }, () => owner.query(statement))
}

const days = async (tenantId: string, what: string) =>
  (await asOwner(tenantId, `select rowhouse.retention_days('${what}') as days`)).rows[0].days as number

test.each([
  ['free', 30],
  ['starter', 90],
  ['professional', 90],
  ['enterprise', 365],
])('the tier %s keeps data for %i days, unless the tenant says otherwise for a table', async (tier, expected) => {
  const tenantId = `of-${tier}`
  await fixture.rowhouse.tenants.provision(tenantId, { tier })
  const tables = ['sessions', 'usage', 'events', 'jobs']
  for (const table of tables) expect(await days(tenantId, table)).toBe(expected)
  const { settings } = fixture.rowhouse.tenant(tenantId)
  await settings.change({ retentionDays: { jobs: 3, events: 1000.9 } })
  expect(await Promise.all([days(tenantId, 'jobs')])).toEqual([3])
  expect(await days(tenantId, 'events')).toBe(1000)
  expect(await days(tenantId, 'sessions')).toBe(expected)
  // What is no number of days is not believed.
  for (const wrong of [0, -5, 36_501, '7', null, [7]]) {
    await settings.change({ retentionDays: { jobs: wrong } })
    expect(await days(tenantId, 'jobs'), JSON.stringify(wrong)).toBe(expected)
  }
  await fixture.rowhouse.tenants.setTier(tenantId, 'enterprise')
  expect(await days(tenantId, 'sessions')).toBe(365)
})

/** Rows of every table that ends by itself, so many of each, of which `kept` stay. */
async function fill(tenantId: string, rows: number, kept: number): Promise<void> {
  await fixture.rowhouse.tenants.provision(tenantId, { tier: 'free' })
  const old = (index: string) =>
    `now() - case when ${index} <= ${rows} then interval '31 days' else interval '29 days' end`
  const series = `generate_series(1, ${rows + kept}) i`
  for (const statement of [
    `insert into rowhouse.sessions (session_id, created_at, updated_at, message_count, token_count)
      select gen_random_uuid(), ${old('i')}, ${old('i')}, 0, 0 from ${series}`,
    `insert into rowhouse.state (key, value, expires_at)
      select 'k' || i, '1', case when i <= ${rows} then now() - interval '1 minute' else now() + interval '1 hour' end from ${series}`,
    `insert into rowhouse.resource_locks (name, holder, token, acquired_at, expires_at)
      select 'l' || i, gen_random_uuid(), 1, now(), now() - case when i <= ${rows} then interval '2 days' else interval '1 hour' end from ${series}`,
    `insert into rowhouse.channels (channel, last_message_id, swept_through, used_at)
      select 'c' || c, 1000000, 0, now() from generate_series(0, 9) c`,
    `insert into rowhouse.channel_messages (channel, message_id, payload, published_at)
      select 'c' || i % 10, i, '1', case when i <= ${rows} then now() - interval '8 days' else now() end from ${series}`,
    `insert into rowhouse.rate_limit_counters (name, subject, state, sweep_at)
      select 'n', 's' || i, '{0}', case when i <= ${rows} then now() else now() + interval '1 hour' end from ${series}`,
    `insert into rowhouse.analytics_events (event_id, event, occurred_at) select 'e' || i, 'x', ${old('i')} from ${series}`,
    `insert into rowhouse.jobs (job_id, run_id, queue, task, payload, priority, status, attempts, max_attempts, run_at, lease_ms, created_at, finished_at)
      select gen_random_uuid(), gen_random_uuid(), 'q', 't', '1', 0, 'done', 1, 1, now(), 1000, ${old('i')}, ${old('i')} from ${series}`,
  ]) {
    await asOwner(tenantId, statement)
  }
}

const TABLES = {
  sessions: 'sessions',
  values: 'state',
  locks: 'resource_locks',
  channelRows: 'channel_messages',
  rateLimitCounters: 'rate_limit_counters',
  events: 'analytics_events',
  jobs: 'jobs',
} as const

/** How many rows each table has left. */
async function left(tenantId: string): Promise<Record<string, number>> {
  const counts: Record<string, number> = {}
  for (const [part, table] of Object.entries(TABLES)) {
    const { rows } = await asOwner(
      tenantId,
      `select count(*)::int as count from rowhouse.${table} where tenant_id = '${tenantId}'`,
    )
    counts[part] = rows[0].count
  }
  return counts
}

const all = (count: number) => Object.fromEntries(Object.keys(TABLES).map((part) => [part, count]))
const parts = (swept: SweptTenant) =>
  Object.fromEntries(Object.keys(TABLES).map((part) => [part, swept[part as 'jobs']]))

test('a sweep goes in batches, and tells of each', async () => {
  await fill('batches', 2500, 10)
  const told: SweepProgress[] = []
  const [swept] = await fixture.rowhouse.sweep({ tenantId: 'batches', onBatch: (progress) => told.push(progress) })
  expect(parts(swept!)).toEqual(all(2500))
  expect(await left('batches')).toEqual(all(10))
  expect(told.every(({ tenantId }) => tenantId === 'batches')).toBe(true)
  for (const part of Object.keys(TABLES)) {
    const batches = told.filter((progress) => progress.part === part).map(({ removed }) => removed)
    if (part === 'sessions') expect(batches).toEqual(Array(25).fill(100))
    // Of a channel everything up to a message goes, so a batch may be a little larger.
    else if (part === 'channelRows') expect(Math.max(...batches)).toBeLessThan(1100)
    else expect(batches).toEqual([1000, 1000, 500])
  }
})

test('a sweep that is stopped in the middle has done its batches, and the next one goes on', async () => {
  await fill('stopped', 1500, 5)
  const stop = () => {
    throw new Error('stopped')
  }
  await expect(fixture.rowhouse.sweep({ tenantId: 'stopped', onBatch: stop })).rejects.toThrow('stopped')
  expect(await left('stopped')).toEqual({ ...all(1505), sessions: 1405 })
  await fixture.rowhouse.sweep({ tenantId: 'stopped' })
  expect(await left('stopped')).toEqual(all(5))
})

const children: ChildProcess[] = []
afterAll(() => {
  for (const child of children) child.kill('SIGKILL')
})

interface ProcessReport {
  readonly swept: SweptTenant
  readonly largest: number
}

async function sweepInProcesses(tenantId: string, count: number): Promise<ProcessReport[]> {
  const program = join(import.meta.dirname, 'sweep-process.ts')
  const started = Array.from({ length: count }, () =>
    fork(program, [database.url('app'), database.url('operator'), tenantId]),
  )
  children.push(...started)
  const said = (child: ChildProcess) =>
    new Promise<any>((resolve, reject) => {
      child.once('message', resolve)
      child.once('exit', (code) => reject(new Error(`the process ended with ${code}`)))
    })
  await Promise.all(started.map(said))
  const reports = started.map(said)
  for (const child of started) child.send('go')
  return Promise.all(reports)
}

test('four processes at once leave nothing, and remove nothing twice', needs('parallelBackends'), async () => {
  await fill('shared', 8000, 20)
  const reports = await sweepInProcesses('shared', 4)
  expect(await left('shared')).toEqual(all(20))
  for (const part of Object.keys(TABLES)) {
    const removed = reports.map(({ swept }) => swept[part as 'jobs'])
    expect([part, removed.reduce((sum, count) => sum + count, 0)]).toEqual([part, 8000])
  }
  expect(Math.max(...reports.map(({ largest }) => largest))).toBeLessThan(1800)
  // They did share the work.
  expect(reports.filter(({ swept }) => swept.values > 0).length).toBeGreaterThan(1)
})

test('a row that somebody uses is left alone, and nobody waits for it', needs('parallelBackends'), async () => {
  await fill('used', 50, 0)
  const user = await database.connect('owner')
  await user.query("begin; set local role rowhouse_owner; set local app.tenant_id = 'used'")
  await user.query("select from rowhouse.state where key = 'k7' for update")
  const [swept] = await fixture.rowhouse.sweep({ tenantId: 'used' })
  expect(swept).toMatchObject({ values: 49, jobs: 50 })
  // The control: without leaving it out, the sweep waits for its user.
  await withChangedFunction(
    owner,
    'sweep_state',
    (source) => source.replace(' skip locked', ''),
    async () => {
      const sweeping = fixture.rowhouse.sweep({ tenantId: 'used' })
      expect(await Promise.race([sweeping, sleep(500, 'waits')])).toBe('waits')
      await user.query('rollback')
      expect((await sweeping)[0]).toMatchObject({ values: 1 })
    },
  )
})
