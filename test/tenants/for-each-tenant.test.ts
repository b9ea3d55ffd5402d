// forEachTenant visits every active tenant once, each in a transaction of its own.

import type pg from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createRowhouse, type Rowhouse, RowhouseError } from '../../src/index.ts'
import { failure, protect, provision } from '../protect/support.ts'
import { useDatabase } from '../setup/database.ts'

const database = useDatabase()
let owner: pg.Client
let rowhouse: Rowhouse<{ notes: { tenant_id: string; v: number } }>
const IDS = Array.from({ length: 12 }, (_, index) => `t${String(index).padStart(2, '0')}`)

beforeAll(async () => {
  owner = await database.connect('owner')
  await owner.query('create table notes (tenant_id text, v int)')
  await owner.query('insert into notes select unnest($1::text[]), 1', [IDS])
  await protect(owner, 'notes')
  await provision(owner, ...IDS)
  await owner.query(
    "select rowhouse.set_tenant_tier('t03', 'gold'), rowhouse.set_tenant_tier('t07', 'gold'), rowhouse.suspend_tenant('t05')",
  )
  rowhouse = createRowhouse({ connectionString: database.url('owner') })
})
afterAll(() => rowhouse?.close())

const ACTIVE = ['default', ...IDS.filter((id) => id !== 't05')]

test.each([1, 5])('visits each active tenant once and sees its rows only (concurrency %i)', async (concurrency) => {
  const visits = await rowhouse.forEachTenant((db) => db.selectFrom('notes').selectAll().execute(), { concurrency })
  expect(visits).toEqual(
    ACTIVE.map((tenantId) => ({ tenantId, result: tenantId === 'default' ? [] : [{ tenant_id: tenantId, v: 1 }] })),
  )
})

test('visits the tenants of one tier', async () => {
  const visits = await rowhouse.forEachTenant(async (_db, tenant) => tenant.tenantId, { tier: 'gold' })
  expect(visits.map(({ result }) => result)).toEqual(['t03', 't07'])
})

test('stops at the first error; what was done before stays, what failed is undone', async () => {
  const visited: string[] = []
  const error = await failure(
    rowhouse.forEachTenant(async (db, { tenantId }) => {
      visited.push(tenantId)
      await db.updateTable('notes').set({ v: 2 }).execute()
      if (tenantId === 't02') throw new Error('stop')
    }),
  )
  expect(error.message).toBe('stop')
  expect(visited).toEqual(['default', 't00', 't01', 't02'])
  const rows = await rowhouse.forEachTenant((db) => db.selectFrom('notes').select('v').execute(), { concurrency: 3 })
  const values = Object.fromEntries(rows.map(({ tenantId, result }) => [tenantId, result[0]?.v]))
  expect(values).toMatchObject({ t00: 2, t01: 2, t02: 1, t03: 1 })
})

test.each([{ concurrency: 0 }, { concurrency: -1 }, { concurrency: 1.5 }, { concurrent: 2 } as never])(
  'refuses %j',
  async (options) => {
    expect(await failure(rowhouse.forEachTenant(async () => {}, options))).toBeInstanceOf(RowhouseError)
  },
)

test('visits more tenants than a page of the registry holds', async () => {
  await owner.query("select rowhouse.provision_tenant('many_' || g, p_tier => 'many') from generate_series(1, 501) g")
  const visits = await rowhouse.forEachTenant(async () => 1, { tier: 'many', concurrency: 8 })
  expect(new Set(visits.map(({ tenantId }) => tenantId)).size).toBe(501)
})
