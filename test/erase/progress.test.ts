// An erasure tells how far it is, of what it did and while it does it.
import type pg from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createRowhouse, type ErasureProgress, type Rowhouse } from '../../src/index.ts'
import { asTenant, protect, provision } from '../protect/support.ts'
import { poll } from '../setup/connection.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'

const database = useDatabase()
let owner: pg.Client
let rowhouse: Rowhouse
let tenants = 0

beforeAll(async () => {
  owner = await database.connect('owner')
  await owner.query(`
    create table notes (tenant_id text not null, id int, other int, primary key (tenant_id, id));
    create table others (tenant_id text not null, id int, note int, primary key (tenant_id, id),
      foreign key (tenant_id, note) references notes deferrable);
    alter table notes add foreign key (tenant_id, other) references others deferrable;
    create table plain (tenant_id text not null, v int)`)
  for (const table of ['notes', 'others']) await protect(owner, table, { partition: true })
  await protect(owner, 'plain')
  rowhouse = createRowhouse({ pool: database.pool('operator', { max: 2 }) })
})
afterAll(() => rowhouse?.close())

async function newTenant(): Promise<string> {
  const tenantId = `leaving-${++tenants}`
  await provision(owner, tenantId)
  await asTenant(owner, tenantId, (client) =>
    client.query(`insert into notes (id) select generate_series(1, 9);
      insert into others (id, note) select g, g from generate_series(1, 9) g;
      insert into plain (v) select generate_series(1, 4);
      select rowhouse.append_audit('{"action": "a.b"}') from generate_series(1, 2500)`),
  )
  return tenantId
}

test.each([
  ['in shared partitions', async () => {}],
  [
    'in partitions of its own',
    (tenantId: string) => owner.query('select rowhouse.promote_tenant($1)', [tenantId]).then(() => {}),
  ],
])('of a tenant %s, up to the rows of the receipt', async (_where, prepare) => {
  const tenantId = await newTenant()
  await prepare(tenantId)
  const seen: ErasureProgress[] = []
  const { rows, tables } = await rowhouse.tenants.erase(tenantId, { onProgress: (progress) => seen.push(progress) })
  expect(seen.at(-1)!.rows).toBe(rows)
  expect(new Set(seen.map(({ totalRows }) => totalRows))).toEqual(new Set([rows]))
  expect(seen.map((progress) => progress.rows)).toEqual(seen.map((progress) => progress.rows).sort((a, b) => a - b))
  // Of the trail after each thousand, of every table that had rows.
  expect(seen.filter(({ table }) => table === 'rowhouse.audit_entries').length).toBeGreaterThan(2)
  const emptied = Object.keys(tables).filter((table) => tables[table]! > 0)
  expect(seen.map(({ table }) => table)).toEqual(expect.arrayContaining(emptied))
})

test('while it runs', needs('parallelBackends'), async () => {
  const tenantId = await newTenant()
  const holder = await database.connect('owner')
  // The trail goes first; then the erasure waits for these rows.
  await holder.query(`begin; set local app.tenant_id = '${tenantId}'; select from plain for key share`)
  const seen: ErasureProgress[] = []
  const erasing = rowhouse.tenants.erase(tenantId, { onProgress: (progress) => seen.push(progress) })
  await poll(async () => seen.at(-1)?.table === 'public.plain' || undefined, {
    message: () => 'was not told of the table',
  })
  expect(seen.at(-1)!.rows).toBeGreaterThan(2500)
  await holder.query('commit')
  await erasing
})

test('only to who asks for it; what the listener throws changes nothing', async () => {
  const operator = await database.connect('operator')
  const notices: string[] = []
  operator.on('notice', ({ message }) => notices.push(message!))
  await operator.query(
    `begin; set local role rowhouse_admin; select rowhouse.erase_tenant('${await newTenant()}'); commit`,
  )
  expect(notices).toEqual([])
  await operator.query(`begin; set local role rowhouse_admin; set local rowhouse.reports_progress = on;
    select rowhouse.erase_tenant('${await newTenant()}'); commit`)
  expect(notices).toContain('rowhouse progress')

  let told = 0
  const receipt = await rowhouse.tenants.erase(await newTenant(), {
    onProgress: () => {
      told++
      throw new Error('not interested')
    },
  })
  expect(told).toBeGreaterThan(2)
  expect(receipt.rows).toBeGreaterThan(2500)
  const before = told
  // Connections go back to the pool without the listener.
  await rowhouse.tenants.erase(await newTenant())
  expect(told).toBe(before)
  await expect(rowhouse.tenants.erase('nobody', { onProgress: 1 as never })).rejects.toMatchObject({
    code: 'invalid_argument',
  })
})
