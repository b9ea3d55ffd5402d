// A dry run writes nothing, counts right, and lists what would be in the way.

import type pg from 'pg'
import { beforeAll, expect, test } from 'vitest'
import { createRowhouse, RowhouseError } from '../../src/index.ts'
import { asTenant, failure, protect, provision } from '../protect/support.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { erase, preview, rowsIn, statusOf } from './support.ts'

const database = useDatabase()
let owner: pg.Client
const TABLES = ['notes', 'entries', 'accounts', 'days']

beforeAll(async () => {
  owner = await database.connect('owner')
  await owner.query(`
    create table notes (tenant_id text not null, id int, primary key (tenant_id, id));
    create table entries (tenant_id text not null, id int, note int, foreign key (tenant_id, note) references notes on delete cascade);
    create table accounts (account bigint not null, id int);
    create table days (tenant_id text not null, day int) partition by range (day);
    create table days_1 partition of days for values from (0) to (5);
    create table days_2 partition of days default`)
  await protect(owner, 'notes', { partition: true })
  await protect(owner, 'entries', { partition: true })
  await protect(owner, 'accounts', { column: 'account' })
  await protect(owner, 'days')
  await provision(owner, '42', 'kept')
  for (const tenantId of ['42', 'kept']) {
    await asTenant(owner, tenantId, (c) =>
      c.query(`insert into notes (id) select generate_series(1, 3); insert into entries (id, note) select g, 1 + g % 3 from generate_series(1, 7) g;
        insert into days (day) select generate_series(1, 9)`),
    )
  }
  await asTenant(owner, '42', (c) => c.query('insert into accounts (id) values (1), (2)'))
})

const COUNTS = { 'public.notes': 3, 'public.entries': 7, 'public.accounts': 2, 'public.days': 9 }

test('counts what the erasure will erase, in a transaction that may not write', async () => {
  const before = await rowsIn(owner, TABLES, '42')
  await owner.query('begin isolation level repeatable read read only')
  expect(await preview(owner, '42')).toEqual({ tenantId: '42', dryRun: true, tables: COUNTS, rows: 21, obstacles: [] })
  await owner.query('commit')
  expect(await rowsIn(owner, TABLES, '42')).toEqual(before)
  expect(await statusOf(owner, '42')).toBe('active')
})

test('counts the same for a promoted tenant', async () => {
  await owner.query("select rowhouse.promote_tenant('42')")
  expect(await preview(owner, '42')).toMatchObject({ tables: COUNTS, rows: 21 })
})

test('leaves the tenant of the transaction as it was', async () => {
  await owner.query("begin; set local app.tenant_id = 'kept'")
  await preview(owner, '42')
  expect((await owner.query('select rowhouse.current_tenant() as tenant')).rows).toEqual([{ tenant: 'kept' }])
  await owner.query('rollback')
})

test('waits for nobody', needs('parallelBackends'), async () => {
  const writer = await database.connect('app')
  await writer.query(
    "begin; set local role rowhouse_app; set local app.tenant_id = '42'; insert into notes (id) values (99)",
  )
  expect((await preview(owner, '42')).rows).toBe(21)
  await writer.query('rollback')
})

test('lists every obstacle; from TypeScript the door stays open', async () => {
  await owner.query(`create schema s; grant usage on schema s to rowhouse_owner; create table s.stray (tenant_id text);
    grant select on s.stray to rowhouse_owner; insert into s.stray values ('42');
    create policy hides on notes as restrictive using (id > 1)`)
  const rowhouse = createRowhouse({ connectionString: database.url('owner') })
  const { obstacles } = await rowhouse.tenants.erase('42', { dryRun: true })
  expect(obstacles).toEqual([
    {
      message: 'policy hides on table public.notes may hide rows of the tenant from the erasure',
      hint: 'alter policy hides on public.notes to rowhouse_app',
    },
    {
      message: 'table s.stray holds 1 rows of the tenant and is not registered',
      hint: expect.stringContaining("select rowhouse.protect_table('s.stray')"),
    },
  ])
  const refused = await rowhouse.tenants.erase('42').catch((error) => error)
  expect(refused).toBeInstanceOf(RowhouseError)
  expect(refused).toMatchObject({ code: 'unregistered_table', message: obstacles[0]!.message })
  expect((await rowhouse.tenants.get('42'))?.status).toBe('active')
  await owner.query('drop schema s cascade; drop policy hides on notes')

  const receipt = await rowhouse.tenants.erase('42')
  expect(receipt).toMatchObject({ tables: COUNTS })
  expect(await rowhouse.tenants.erase('kept', { dryRun: true })).toMatchObject({ obstacles: [] })
  await rowhouse.close()
})

test('of a tenant that is unknown or erased is an error', async () => {
  expect((await failure(preview(owner, 'nobody'))).code).toBe('RH002')
  expect((await failure(preview(owner, '42'))).code).toBe('RH004')
  expect((await failure(preview(owner, 'no id'))).code).toBe('RH006')
})

test('negative control: the count is that of the rows, not of an older look at them', async () => {
  await asTenant(owner, 'kept', (c) => c.query('insert into days (day) values (50)'))
  expect((await preview(owner, 'kept')).rows).toBe(20)
  expect((await erase(owner, 'kept')).rows).toBe(20)
})
