import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createRowhouse, type Rowhouse, type SweptTenant } from '../../src/index.ts'
import { type SweepPart, sweepTenants } from '../../src/sweep/sweep.ts'
import { useDatabase } from '../setup/database.ts'

const database = useDatabase()
let rowhouse: Rowhouse
let owner: pg.Client

beforeAll(async () => {
  owner = await database.connect('owner')
  rowhouse = createRowhouse({
    pool: database.pool('app', { max: 2 }),
    admin: { pool: database.pool('operator', { max: 2 }) },
  })
})
afterAll(() => rowhouse.close())

const NOTHING = {
  sessions: 0,
  values: 0,
  locks: 0,
  channelRows: 0,
  rateLimitCounters: 0,
  queueRequests: 0,
  usageHours: 0,
  usageEvents: 0,
  events: 0,
  jobs: 0,
}

/** One of everything that ends by itself, and one of everything that stays. */
async function fill(tenantId: string): Promise<void> {
  await rowhouse.tenants.provision(tenantId)
  const { sessions, state, locks, rateLimiter, usage } = rowhouse.tenant(tenantId)
  await sessions.create({ expiresInMs: 100 })
  await sessions.create()
  await state.set('ends', 1, { ttlMs: 50 })
  await state.set('stays', 1)
  await locks.acquire('ends', { leaseMs: 50 })
  await locks.acquire('stays', { leaseMs: 60_000 })
  // A lock that ended is kept for a day, so that its tokens go on where they were.
  await owner.query(`begin; set local role rowhouse_owner; set local app.tenant_id = '${tenantId}';
    update rowhouse.resource_locks set expires_at = now() - interval '2 days' where name = 'ends'; commit`)
  await rateLimiter.allow('anybody', { windows: [{ limit: 5, windowMs: 50 }] })
  await rateLimiter.allow('anybody', { windows: [{ limit: 5, windowMs: 3_600_000 }] })
  await usage.record('one', { toolCalls: 1, money: '0.005' }, { kind: 'tool_call' })
}

test('removes what ended of every active tenant, and nothing else', async () => {
  for (const tenantId of ['acme', 'globex', 'closed']) await fill(tenantId)
  await rowhouse.tenants.suspend('closed')
  await sleep(200)
  const told: SweptTenant[] = []
  const swept = await rowhouse.sweep({ onTenant: (tenant) => told.push(tenant) })
  expect(told).toEqual(swept)
  // Every database has the tenant default.
  expect(swept.map(({ tenantId }) => tenantId)).toEqual(['acme', 'default', 'globex'])
  for (const tenant of swept.filter(({ tenantId }) => tenantId !== 'default')) {
    expect(tenant).toMatchObject({ sessions: 1, values: 1, locks: 1, usageHours: 1 })
  }

  const acme = rowhouse.tenant('acme')
  expect(await acme.state.get('stays')).toBe(1)
  expect(await acme.sessions.list()).toMatchObject({ sessions: [{ expiresAt: null }] })
  expect(await rowhouse.sweep()).toEqual(['acme', 'default', 'globex'].map((tenantId) => ({ tenantId, ...NOTHING })))

  await rowhouse.tenants.resume('closed')
  expect(await rowhouse.sweep({ tenantId: 'closed' })).toMatchObject([{ tenantId: 'closed', sessions: 1, values: 1 }])
})

test('a tenant that was suspended since it was listed is left out; any other error stops the sweep', async () => {
  for (const tenantId of ['a1', 'a2', 'a3']) await rowhouse.tenants.provision(tenantId)
  async function* listed() {
    yield { id: 'a1' }
    await rowhouse.tenants.suspend('a2')
    yield { id: 'a2' }
    yield { id: 'a3' }
  }
  const parts: SweepPart[] = [
    { name: 'sessions', batchSize: 100, sweep: (tenantId) => rowhouse.tenant(tenantId).sessions.sweep() },
  ]
  const swept = await sweepTenants(listed, parts)
  expect(swept.map(({ tenantId }) => tenantId)).toEqual(['a1', 'a3'])
  const broken: SweepPart = { name: 'values', batchSize: 1, sweep: () => Promise.reject(new Error('broken')) }
  await expect(sweepTenants(listed, [...parts, broken])).rejects.toThrow('broken')
  await expect(rowhouse.sweep({ tenantId: 'a2' })).rejects.toMatchObject({ code: 'tenant_suspended' })
  await expect(rowhouse.sweep({ tenantId: 'nobody' })).rejects.toMatchObject({ code: 'tenant_not_found' })
  await expect(rowhouse.sweep({ tenants: ['a1'] } as never)).rejects.toMatchObject({ code: 'invalid_argument' })
})

test('all tenants are read page by page', async () => {
  const operator = await database.connect('operator')
  await operator.query(
    `set role rowhouse_admin; select rowhouse.provision_tenant('many_' || lpad(i::text, 4, '0')) from generate_series(1, 1100) i`,
  )
  const ids = (await Array.fromAsync(rowhouse.tenants.all())).map(({ id }) => id)
  expect(ids.filter((id) => id.startsWith('many_'))).toHaveLength(1100)
  expect(new Set(ids).size).toBe(ids.length)
  expect(await Array.fromAsync(rowhouse.tenants.all({ status: 'suspended' }))).toMatchObject([{ id: 'a2' }])
})
