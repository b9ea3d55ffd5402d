// A demotion in its steps: between any two of them every row is in one place, nobody reads half of them, and it can be
// finished, or the tenant be erased.

import { PassThrough } from 'node:stream'
import type pg from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createRowhouse, type Rowhouse, TenantMovingError } from '../../src/index.ts'
import { brokenReceipts, erase, preview, rowsIn, statusOf } from '../erase/support.ts'
import { asTenant, failure, protect, provision } from '../protect/support.ts'
import { useDatabase } from '../setup/database.ts'

const database = useDatabase({ needs: ['parallelBackends'] })
const TABLES = ['customers', 'orders', 'tree', 'watched', 'circle_a', 'circle_b']
let owner: pg.Client
let rowhouse: Rowhouse<any>
let number = 0
let acme: string
let schema: string
let before: Record<string, string[]>
let hash: string

beforeAll(async () => {
  owner = await database.connect('owner')
  rowhouse = createRowhouse({
    connectionString: database.url('app'),
    admin: { connectionString: database.url('owner') },
  })
  await owner.query(`
    create table countries (code text primary key);
    insert into countries values ('de'), ('fr');
    create table customers (tenant_id text not null, id int, country text references countries, primary key (tenant_id, id));
    create table orders (tenant_id text not null, id int generated always as identity, customer int, primary key (tenant_id, id),
      foreign key (tenant_id, customer) references customers deferrable initially deferred);
    create table tree (tenant_id text not null, id int, parent int, primary key (tenant_id, id), foreign key (tenant_id, parent) references tree);
    create table watched (tenant_id text not null, id int, primary key (tenant_id, id));
    create table log (entry text); grant insert on log to public;
    create function log() returns trigger language plpgsql as $$ begin insert into public.log values (tg_op || old.id); return coalesce(new, old); end $$;
    create trigger watch after insert or delete on watched for each row execute function log();
    create table circle_a (tenant_id text not null, id int, b int, primary key (tenant_id, id));
    create table circle_b (tenant_id text not null, id int, a int, primary key (tenant_id, id), foreign key (tenant_id, a) references circle_a);
    create table plain (tenant_id text not null, customer int)`)
  for (const table of TABLES) await protect(owner, table, { partition: true })
  await protect(owner, 'plain')
  await provision(owner, 'globex')
  await fill('globex')
})
afterAll(() => rowhouse.close())

beforeEach(async () => {
  acme = `acme_${number++}`
  await provision(owner, acme)
  await fill(acme)
  await owner.query(
    'alter table circle_a drop constraint if exists back; alter table plain drop constraint if exists later',
  )
  const { rows } = await owner.query("select rowhouse.promote_tenant($1) ->> 'schema' as schema", [acme])
  schema = rows[0].schema
  // Foreign keys that came later: a circle, and one of a table that has no partitions.
  await owner.query(`alter table circle_a add constraint back foreign key (tenant_id, b) references circle_b;
    alter table plain add constraint later foreign key (tenant_id, customer) references customers`)
  await asTenant(owner, acme, (c) => c.query('update circle_a set b = id; insert into plain (customer) values (1)'))
  before = await rowsIn(owner, TABLES, acme)
  hash = await rowhouse.tenants.contentHash(acme)
  await owner.query('delete from log')
})

const fill = (tenantId: string) =>
  asTenant(owner, tenantId, (c) =>
    c.query(`insert into customers (id, country) select g, 'de' from generate_series(1, 20) g;
      insert into orders (customer) select g from generate_series(1, 20) g;
      insert into tree (id, parent) select g, nullif((g + 7) % 20, g) from generate_series(0, 19) g;
      insert into watched (id) select generate_series(1, 12000);
      insert into circle_a (id) select generate_series(1, 9); insert into circle_b (id, a) select g, g from generate_series(1, 9) g`),
  )
const begin = () => owner.query('select rowhouse.begin_demotion($1)', [acme])
const next = async (): Promise<Record<string, number> | null> =>
  (await owner.query('select rowhouse.demote_next($1) as moved', [acme])).rows[0].moved
const asRowhouseOwner = (sql: string) => owner.query(`begin; set local role rowhouse_owner; ${sql}; commit`)
/** As if whoever demotes it had been away for long. */
const leave = () =>
  asRowhouseOwner(`update rowhouse.tenants set updated_at = now() - interval '1 minute' where tenant_id = '${acme}'`)

async function expectWhole(): Promise<void> {
  expect(await statusOf(owner, acme)).toBe('active')
  expect(await rowsIn(owner, TABLES, acme)).toEqual(before)
  expect(await rowhouse.tenants.contentHash(acme)).toBe(hash)
  expect((await owner.query('select from pg_namespace where nspname = $1', [schema])).rowCount).toBe(0)
}

test('moves what others refer to first, circles at once, and what triggers watch in parts, and tells them nothing', async () => {
  await begin()
  expect(await statusOf(owner, acme)).toBe('relocating')
  const steps: Record<string, number>[] = []
  for (let moved = await next(); moved !== null; moved = await next()) steps.push(moved)
  const index = (table: string) => steps.findIndex((step) => `public.${table}` in step)
  expect(index('customers')).toBeGreaterThan(-1)
  expect(index('customers')).toBeLessThan(index('orders'))
  expect(steps[index('circle_a')]).toEqual({ 'public.circle_a': 9, 'public.circle_b': 9 })
  expect(steps.map((step) => step['public.watched']).filter((rows) => rows !== undefined)).toEqual([5000, 5000, 2000])
  await expectWhole()
  expect((await owner.query('select from log')).rowCount).toBe(0)
  await asTenant(owner, acme, (c) => c.query('delete from watched where id = 1'))
  expect((await owner.query('select entry from log')).rows).toEqual([{ entry: 'DELETE1' }])
  for (const sql of [
    'insert into orders (customer) values (99)',
    'insert into plain (customer) values (99)',
    'delete from customers where id = 1',
  ]) {
    expect((await failure(asTenant(owner, acme, (c) => c.query(sql)))).code, sql).toBe('23503')
  }
})

test.each([0, 1, 2, 3, 4, 5, 6, 7])('cut off after %i steps, the next call finishes it', async (steps) => {
  await begin()
  for (let step = 0; step < steps; step++) await next()
  const tables: (string | undefined)[] = []
  const { tables: moved } = await rowhouse.tenants.demote(acme, { onProgress: ({ table }) => tables.push(table) })
  expect(Object.keys(moved).every((table) => tables.includes(table))).toBe(true)
  await expectWhole()
  expect((await rowhouse.tenants.demote(acme)).tables).toEqual({})
})

test('nobody takes away what its rows refer to meanwhile', async () => {
  await asTenant(owner, acme, (c) => c.query("update customers set country = 'fr'"))
  before = await rowsIn(owner, TABLES, acme)
  hash = await rowhouse.tenants.contentHash(acme)
  await begin()
  const remove = () => owner.query("delete from countries where code = 'fr'")
  expect((await failure(remove())).code).toBe('23503')
  // Negative control: nothing else keeps the country.
  const { rows } = await owner.query(
    `select conrelid::regclass::text as name, conname from pg_constraint where confrelid = 'countries'::regclass and conrelid::regclass::text like 'rowhouse\\_p%' and conparentid = 0`,
  )
  expect(rows).toHaveLength(1)
  await asRowhouseOwner(`alter table ${rows[0].name} drop constraint ${rows[0].conname}`)
  expect((await remove()).rowCount).toBe(1)
  await owner.query("insert into countries values ('fr')")
  await rowhouse.tenants.demote(acme)
  await expectWhole()
})

test('tables that are altered or dropped meanwhile are no obstacle', async () => {
  await owner.query('create table dropped (tenant_id text not null, v int)')
  await protect(owner, 'dropped', { partition: true })
  await owner.query('select rowhouse.promote_tenant($1)', [acme])
  await asTenant(owner, acme, (c) => c.query('insert into dropped (v) values (1)'))
  await begin()
  await owner.query(`drop table dropped; alter table watched add column added int default 7;
    alter table tree add column gone int; alter table tree drop column gone`)
  await rowhouse.tenants.demote(acme)
  const { rows } = await asTenant(owner, acme, (c) =>
    c.query('select count(*)::int as n, min(added) as added from watched'),
  )
  expect(rows).toEqual([{ n: 12000, added: 7 }])
  await owner.query('alter table watched drop column added')
  await expectWhole()
})

describe('while it is cut off', () => {
  beforeEach(async () => {
    await begin()
    await next()
    await leave()
  })

  test('nobody enters the tenant, whether to read or to write, and everybody is told to try again', async () => {
    const attempts = [
      rowhouse.query(acme, (db) => db.selectFrom('customers').selectAll()),
      rowhouse.withTenant(acme, (db) => db.selectFrom('customers').selectAll().execute(), { readOnly: true }),
      rowhouse.tenants.export(acme, { to: new PassThrough() }),
      rowhouse.tenants.contentHash(acme),
      rowhouse.tenants.promote(acme),
    ]
    for (const error of await Promise.all(attempts.map(failure))) {
      expect(error).toBeInstanceOf(TenantMovingError)
      expect(error).toMatchObject({ code: 'tenant_moving', retryable: true, httpStatus: 503 })
    }
    const writer = await database.connect('app')
    await writer.query(`begin; set local role rowhouse_app; set local app.tenant_id = '${acme}'`)
    expect((await failure(writer.query('insert into watched (id) values (0)'))).code).toBe('RH033')
    await writer.query('rollback')
    await begin()
    while ((await next()) !== null);
    await expectWhole()
  })

  test('others work, are erased, and the doctor finds nothing new', async () => {
    expect(await rowhouse.query('globex', (db) => db.selectFrom('customers').selectAll())).toHaveLength(20)
    await provision(owner, `gone_${number}`)
    expect((await erase(owner, `gone_${number}`)).residue.rows).toBe(0)
    expect((await rowhouse.doctor()).filter(({ object }) => object.includes('rowhouse_p'))).toEqual([])
  })

  test('what operators do to it holds afterwards', async () => {
    await rowhouse.tenants.suspend(acme, { reason: 'unpaid' })
    await rowhouse.apiKeys.issue(acme, { name: 'meanwhile' })
    expect(await statusOf(owner, acme)).toBe('relocating')
    await rowhouse.tenants.demote(acme)
    expect(await rowhouse.tenants.get(acme)).toMatchObject({
      status: 'suspended',
      statusReason: 'unpaid',
      promoted: false,
    })
    await rowhouse.tenants.resume(acme)
    await expectWhole()
    const entries = await rowhouse.tenant(acme).audit.query({ limit: 4 })
    expect(entries.map(({ action }) => action.replace('rowhouse.', '')).sort()).toEqual([
      'key.issue',
      'tenant.demote',
      'tenant.resume',
      'tenant.suspend',
    ])
  })

  test('it can be erased, with what was moved and what was not', async () => {
    const rows = Object.values(before).reduce((sum, all) => sum + all.length, 1)
    expect((await preview(owner, acme)).rows).toBe(rows)
    const kept = await rowsIn(owner, TABLES, 'globex')
    expect((await erase(owner, acme)).rows).toBe(rows)
    // The trigger sees the rows go, as it does otherwise.
    expect((await owner.query("select from log where entry like 'DELETE%'")).rowCount).toBe(12000)
    for (const left of Object.values(await rowsIn(owner, [...TABLES, 'plain'], acme))) expect(left).toEqual([])
    expect((await owner.query('select from pg_namespace where nspname = $1', [schema])).rowCount).toBe(0)
    expect(await rowsIn(owner, TABLES, 'globex')).toEqual(kept)
    expect(await brokenReceipts(owner)).toEqual([])
    expect((await failure(next())).code).toBe('RH004')
  })

  test('negative control: opened by hand, the tenant reads half of its rows', async () => {
    await asRowhouseOwner(
      `update rowhouse.tenants set status = 'active', locks_on_entry = false where tenant_id = '${acme}'`,
    )
    const found = await rowsIn(owner, TABLES, acme)
    expect(found).not.toEqual(before)
    await asRowhouseOwner(`update rowhouse.tenants set status = 'relocating' where tenant_id = '${acme}'`)
    await rowhouse.tenants.demote(acme)
    await expectWhole()
  })
})

describe('before anything is detached', () => {
  test('what would keep rows from coming back is refused', async () => {
    await owner.query('alter table tree add constraint small check (id < 5) not valid')
    expect(await failure(rowhouse.tenants.demote(acme))).toMatchObject({
      code: 'table_not_protectable',
      hint: 'alter table public.tree validate constraint small',
    })
    expect(await statusOf(owner, acme)).toBe('active')
    expect(await rowsIn(owner, TABLES, acme)).toEqual(before)
    await owner.query('alter table tree drop constraint small')
    await rowhouse.tenants.demote(acme)
    await expectWhole()
  })

  test('a table that nobody promoted is no obstacle, and neither is a tenant that never was', async () => {
    expect((await rowhouse.tenants.demote('globex')).tables).toEqual({})
    expect(await statusOf(owner, 'globex')).toBe('active')
  })
})
