// Erasing a promoted tenant drops its partitions, whole where nothing needs the rows to go one by one.

import type pg from 'pg'
import { beforeAll, beforeEach, expect, test } from 'vitest'
import { asTenant, failure, protect, provision } from '../protect/support.ts'
import { useDatabase } from '../setup/database.ts'
import { brokenReceipts, erase, rowsIn } from './support.ts'

const database = useDatabase()
const TABLES = ['notes', 'entries', 'tree', 'plain']
let owner: pg.Client
let number = 0
let gone: string
let schema: string

beforeAll(async () => {
  owner = await database.connect('owner')
  await owner.query(`
    create table notes (tenant_id text not null, id int, primary key (tenant_id, id));
    create table entries (tenant_id text not null, id int, note int, foreign key (tenant_id, note) references notes on delete restrict);
    create table tree (tenant_id text not null, id int, parent int, primary key (tenant_id, id), foreign key (tenant_id, parent) references tree);
    create table plain (tenant_id text not null, v int)`)
  for (const table of TABLES) await protect(owner, table, { partition: table !== 'plain' })
  await provision(owner, 'kept')
  await fill('kept')
  await owner.query("select rowhouse.promote_tenant('kept')")
})

beforeEach(async () => {
  gone = `gone_${number++}`
  await provision(owner, gone)
  await fill(gone)
  const { rows } = await owner.query("select rowhouse.promote_tenant($1) ->> 'schema' as schema", [gone])
  schema = rows[0].schema
})

const fill = (tenantId: string) =>
  asTenant(owner, tenantId, (c) =>
    c.query(`insert into notes (id) select generate_series(1, 9); insert into entries (id, note) select g, g from generate_series(1, 9) g;
      insert into tree (id, parent) select g, nullif(g - 1, 0) from generate_series(1, 9) g; insert into plain (v) values (1)`),
  )

async function expectErased(partitionsDropped: number): Promise<void> {
  const kept = await rowsIn(owner, TABLES, 'kept')
  const receipt = await erase(owner, gone)
  expect(receipt.tables).toMatchObject({ 'public.notes': 9, 'public.entries': 9, 'public.tree': 9, 'public.plain': 1 })
  const own = await owner.query(
    "select from rowhouse.protected_tables where layout = 'partitioned' and relation::text like 'rowhouse.%'",
  )
  expect(receipt.partitionsDropped).toBe(partitionsDropped === 0 ? 0 : partitionsDropped + own.rowCount!)
  for (const rows of Object.values(await rowsIn(owner, TABLES, gone))) expect(rows).toEqual([])
  expect(await rowsIn(owner, TABLES, 'kept')).toEqual(kept)
  expect((await owner.query('select from pg_namespace where nspname = $1', [schema])).rowCount).toBe(0)
  expect(await brokenReceipts(owner)).toEqual([])
}

/** Tables whose rows go unread. */
async function droppable(): Promise<string[]> {
  const { rows } = await owner.query(
    'select relation::text as name from rowhouse.droppable_partitions($1) order by 1',
    [gone],
  )
  return rows.map(({ name }) => name)
}

test('its partitions and their schema are dropped, self-references and all', async () => {
  expect(await droppable()).toEqual(['entries', 'notes', 'tree'])
  await expectErased(3)
})

test('rows that a trigger wants to see go one by one', async () => {
  await owner.query(`create table seen (entry text); grant insert on seen to public;
    create function seen() returns trigger language plpgsql as $$ begin insert into public.seen values (old.id::text); return null; end $$;
    create trigger seen after delete on tree for each row execute function seen()`)
  expect(await droppable()).toEqual(['entries', 'notes'])
  await expectErased(3)
  expect((await owner.query('select from seen')).rowCount).toBe(9)
  await owner.query('drop trigger seen on tree')
})

test('rows that other tables refer to go one by one', async () => {
  await owner.query('create table outside (t text, id int, foreign key (t, id) references notes on delete cascade)')
  await owner.query("insert into outside values ($1, 1), ('kept', 1)", [gone])
  expect(await failure(erase(owner, gone))).toMatchObject({
    code: 'RH030',
    hint: expect.stringContaining('grant select'),
  })
  await owner.query('grant select on outside to rowhouse_owner')
  // Entries refer to notes, which stay for a moment longer.
  expect((await droppable()).filter((table) => !table.startsWith('rowhouse.'))).toEqual(['tree'])
  await expectErased(3)
  expect((await owner.query('select t from outside')).rows).toEqual([{ t: 'kept' }])
  await owner.query('drop table outside')
})

test('partitions of a table that is protected no longer, and empty, are dropped as well', async () => {
  await owner.query('create table former (tenant_id text not null, v int)')
  await protect(owner, 'former', { partition: true })
  await owner.query('select rowhouse.promote_tenant($1)', [gone])
  await owner.query("select rowhouse.unprotect_table('former'); grant select on former to rowhouse_owner")
  await expectErased(4)
  await owner.query('drop table former')
})

test('one that was demoted is erased in the shared partitions', async () => {
  await owner.query('select rowhouse.demote_tenant($1)', [gone])
  await expectErased(0)
})

test('negative control: a partition that is not dropped whole holds the rows until they are deleted', async () => {
  const { rows } = await asTenant(owner, gone, (c) =>
    c.query('select distinct tableoid::regclass::text as name from notes'),
  )
  expect(rows[0].name).toContain(schema)
  await erase(owner, gone)
  expect((await owner.query('select to_regclass($1) as found', [rows[0].name])).rows).toEqual([{ found: null }])
})
