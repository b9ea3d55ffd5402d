import { sql } from 'kysely'
import type pg from 'pg'
import { beforeAll, expect, test } from 'vitest'
import { createRowhouse, type Rowhouse } from '../../src/index.ts'
import { expectError } from '../documents/fixture.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { ACME, GLOBEX, useRowhouse } from './support.ts'

const database = useDatabase()
const fixture = useRowhouse(database)
let owner: Rowhouse
let ownerClient: pg.Client

beforeAll(async () => {
  ownerClient = await database.connect('owner')
  await ownerClient.query(`
    create table public.invoices (id int not null, number text, amount numeric, secret text, tenant_id text not null,
      primary key (tenant_id, id));
    create table public.events (id int not null, note text, tenant_id text not null, primary key (tenant_id, id));
    create table public.plain (id int);
    create table public.keyless (note text)`)
  owner = createRowhouse({ pool: database.pool('owner', { max: 2 }) })
  for (const table of ['public.invoices', 'public.keyless']) await owner.protectTable(table)
  await owner.protectTable('public.events', { partition: true })
  await owner.auditTable('public.invoices', { except: ['secret'] })
  await owner.auditTable('public.events')
  return () => owner.close()
})

const historyOf = async (tenantId: string) =>
  (await fixture.rowhouse.tenant(tenantId).audit.query({ action: 'rowhouse.row.*', order: 'oldest', limit: 1000 })).map(
    ({ action, detail }) => [action.replace('rowhouse.row.', ''), detail],
  )
const KEY = { tenant_id: ACME, id: 1 }

test('every row that is inserted, changed or deleted is recorded, without the columns left out', async () => {
  await fixture.rowhouse.withTenant(
    ACME,
    async (db) => {
      await sql`insert into invoices (id, number, amount, secret) values (1, 'A-1', 120, 'hush')`.execute(db)
      await sql`update invoices set amount = 90, secret = 'hush hush' where id = 1`.execute(db)
      await sql`update invoices set secret = 'only that' where id = 1`.execute(db)
      await sql`delete from invoices where id = 1`.execute(db)
    },
    { userId: 'u_5' },
  )
  expect(await historyOf(ACME)).toEqual([
    ['insert', { table: 'public.invoices', key: KEY, row: { ...KEY, number: 'A-1', amount: 120 } }],
    ['update', { table: 'public.invoices', key: KEY, changes: { amount: { from: 120, to: 90 } } }],
    ['delete', { table: 'public.invoices', key: KEY, row: { ...KEY, number: 'A-1', amount: 90 } }],
  ])
  const [entry] = await fixture.rowhouse.tenant(ACME).audit.query({ action: 'rowhouse.row.update' })
  expect(entry!.userId).toBe('u_5')
})

test('a change that is rolled back is not recorded, and one that changes nothing neither', async () => {
  const before = await historyOf(GLOBEX)
  await expect(
    fixture.rowhouse.withTenant(GLOBEX, async (db) => {
      await sql`insert into invoices (id, number) values (7, 'G-7')`.execute(db)
      throw new Error('undone')
    }),
  ).rejects.toThrow('undone')
  await fixture.rowhouse.withTenant(GLOBEX, async (db) => {
    await sql`update invoices set amount = amount`.execute(db)
    await sql`delete from invoices where id = 999`.execute(db)
  })
  expect(await historyOf(GLOBEX)).toEqual(before)
})

test('upserts and a changed key are what they do to rows', async () => {
  await fixture.rowhouse.withTenant(GLOBEX, async (db) => {
    await sql`insert into invoices (id, number) values (1, 'G-1')`.execute(db)
    await sql`insert into invoices (id, number) values (1, 'G-2'), (2, 'G-3')
      on conflict (tenant_id, id) do update set number = excluded.number`.execute(db)
    await sql`update invoices set id = 3 where id = 2`.execute(db)
  })
  const changes = (await historyOf(GLOBEX)).map(
    ([action, detail]) => `${action} ${(detail as { key: { id: number } }).key.id}`,
  )
  expect(changes.sort()).toEqual(['insert 1', 'insert 2', 'update 1', 'update 2', 'update 3'])
})

test('a partitioned table, a promoted tenant and a thousand rows at once', async () => {
  await fixture.rowhouse.tenants.provision('many')
  await fixture.rowhouse
    .tenant('many')
    .runContext((db) =>
      sql`insert into events (id, note) select g, 'note ' || g from generate_series(1, 1000) g`.execute(db),
    )
  expect(await historyOf('many')).toHaveLength(1000)
  // The rows only move.
  await fixture.rowhouse.tenants.promote('many')
  expect(await historyOf('many')).toHaveLength(1000)
  await fixture.rowhouse.tenant('many').runContext((db) => sql`delete from events where id <= 10`.execute(db))
  await fixture.rowhouse.tenants.demote('many')
  expect((await fixture.rowhouse.tenant('many').audit.query({ action: 'rowhouse.row.delete' })).length).toBe(10)
  expect(await fixture.rowhouse.auditLog.verify('many')).toMatchObject({ intact: true })
})

test('an erasure leaves no history of itself', async () => {
  await fixture.rowhouse.tenants.provision('leaving')
  await fixture.rowhouse
    .tenant('leaving')
    .runContext((db) => sql`insert into invoices (id) values (1), (2)`.execute(db))
  const receipt = await fixture.rowhouse.tenants.erase('leaving')
  expect(receipt.tables).toMatchObject({ 'public.invoices': 2, 'rowhouse.audit_entries': 4 })
  expect(receipt.residue.rows).toBe(0)
})

test('of a row that is too long for an entry, the key is recorded', async () => {
  await fixture.rowhouse.withTenant(ACME, (db) =>
    sql`insert into invoices (id, number) values (50, repeat('x', 300000))`.execute(db),
  )
  expect((await historyOf(ACME)).at(-1)).toEqual([
    'insert',
    { table: 'public.invoices', key: { ...KEY, id: 50 }, tooLong: true },
  ])
})

test('the history of each tenant holds its own rows, and the application can not write it', async () => {
  for (const tenantId of [ACME, GLOBEX]) {
    const text = JSON.stringify(await historyOf(tenantId))
    expect(text).toContain(`"tenant_id":"${tenantId}"`)
    expect(text).not.toContain(`"tenant_id":"${tenantId === ACME ? GLOBEX : ACME}"`)
  }
  await expect(
    fixture.rowhouse.withTenant(ACME, (db) =>
      sql`select rowhouse.record_row_changes('delete', 'public.invoices', '[{"key": 1}]')`.execute(db),
    ),
  ).rejects.toMatchObject({ code: '42501' })
})

test('the application can not switch the history off', async () => {
  const before = (await historyOf(ACME)).length
  await fixture.rowhouse.withTenant(ACME, async (db) => {
    for (const setting of ['rowhouse.audits_lifecycle', 'rowhouse.holds_tenant_lock', 'rowhouse.purges_audit']) {
      await sql`select set_config(${setting}, 'on', true)`.execute(db)
    }
    await sql`insert into invoices (id) values (60)`.execute(db)
  })
  expect((await historyOf(ACME)).length).toBe(before + 1)
  for (const statement of [
    'alter table invoices disable trigger all',
    'drop trigger rowhouse_history_insert on invoices',
  ]) {
    await expect(
      fixture.rowhouse.withTenant(ACME, (db) => sql.raw(statement).execute(db)),
      statement,
    ).rejects.toMatchObject({ code: '42501' })
  }
})

test('tables without protection, key or such a column are refused', async () => {
  await expectError(owner.auditTable('public.plain'), 'table_not_protected')
  await expectError(owner.auditTable('public.keyless'), 'table_not_protectable', /no primary key/)
  await expect(owner.auditTable('public.invoices', { except: ['surprise'] })).rejects.toThrow(/surprise/)
  await expect(owner.auditTable('public.invoices', { except: ['id'] })).rejects.toThrow(/besides its key: id/)
})

test('it can be ended, and what was recorded stays', needs('realRoles'), async () => {
  const before = (await historyOf(ACME)).length
  await owner.unauditTable('public.invoices')
  await fixture.rowhouse.withTenant(ACME, (db) => sql`insert into invoices (id) values (70)`.execute(db))
  expect((await historyOf(ACME)).length).toBe(before)
  await owner.auditTable('public.invoices')
})
