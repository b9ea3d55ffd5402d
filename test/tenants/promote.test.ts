// Promotion and its opposite move rows, and change nothing else: every row, key, index and trigger is as before.

import type pg from 'pg'
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { rowsIn, rowsOf } from '../erase/support.ts'
import { asTenant, failure, protect, provision } from '../protect/support.ts'
import { useDatabase } from '../setup/database.ts'

const database = useDatabase()
let owner: pg.Client
let number = 0
/** The tenant that moves, of this test alone, and its schema. */
let acme: string

const TABLES = ['customers', 'orders', 'tree', 'tags', '"Wei""rd $$"'] as const

beforeAll(async () => {
  owner = await database.connect('owner')
  await provision(owner, 'globex')
})

beforeEach(async () => {
  acme = `acme_${number}`
  await provision(owner, acme)
  await owner.query(`create schema s${number}; set search_path = s${number++}, public;
    create table customers (tenant_id text not null, id bigint generated always as identity, gone int, name text collate "C" default 'x',
      upper_name text generated always as (upper(name)) stored, primary key (tenant_id, id), unique (tenant_id, name) deferrable);
    alter table customers drop column gone;
    create table orders (tenant_id text not null, id serial, customer bigint, total numeric(10, 2) check (total >= 0), at timestamptz default now(),
      doc jsonb, primary key (tenant_id, id), foreign key (tenant_id, customer) references customers on delete restrict deferrable initially deferred);
    create unique index on orders (tenant_id, lower(doc ->> 'number')) include (total) where doc is not null;
    create index "ord""er" on orders using gin (doc);
    create table tree (tenant_id rowhouse.tenant_id not null, id int, parent int, primary key (tenant_id, id),
      foreign key (tenant_id, parent) references tree on delete cascade);
    create table tags (tenant_id varchar(64) not null, order_id int, tag text, fill char(50) default 'f',
      primary key (tenant_id, order_id, tag), foreign key (tenant_id, order_id) references orders on delete cascade);
    create table "Wei""rd $$" ("ten""ant" text not null, "col;umn" int, primary key ("ten""ant", "col;umn"));
    create table plain (tenant_id text, v int);
    insert into customers (tenant_id, name) select t, 'n' || g from unnest(array['${acme}', 'globex']) t, generate_series(1, 20) g;
    insert into orders (tenant_id, customer, total, doc) select tenant_id, id, id * 1.5, jsonb_build_object('number', id) from customers;
    insert into tree select t, g, nullif(g / 2, 0) from unnest(array['${acme}', 'globex']) t, generate_series(1, 20) g;
    insert into tags select tenant_id, id, 'tag' from orders;
    insert into "Wei""rd $$" select t, g from unnest(array['${acme}', 'globex']) t, generate_series(1, 5) g`)
  for (const table of TABLES) {
    await protect(owner, table, { partition: true, column: table.startsWith('"') ? 'ten"ant' : 'tenant_id' })
  }
  await protect(owner, 'plain')
})

afterEach(() => owner.query(`reset search_path; drop schema s${number - 1} cascade`))

const promote = async (tenantId = acme) =>
  (await owner.query('select rowhouse.promote_tenant($1) as moved', [tenantId])).rows[0].moved
const demote = async (tenantId = acme) =>
  (await owner.query('select rowhouse.demote_tenant($1) as moved', [tenantId])).rows[0].moved
const count = (sql: string) => asTenant(owner, acme, async (c) => (await c.query(sql)).rows[0].n)
const inOwnPartitions = () =>
  count("select count(*)::int as n from orders where tableoid::regclass::text like 'rowhouse_p________________.%'")

describe('the data', () => {
  test('is equal before, while promoted, and after', async () => {
    const before = { acme: await rowsIn(owner, TABLES, acme), globex: await rowsIn(owner, TABLES, 'globex') }
    const same = async () => {
      expect({ acme: await rowsIn(owner, TABLES, acme), globex: await rowsIn(owner, TABLES, 'globex') }).toEqual(before)
    }
    const moved = await promote()
    expect(Object.values(moved.tables)).toEqual(expect.arrayContaining([20, 20, 20, 20, 5]))
    expect(moved).toMatchObject({ tenantId: acme, skipped: {} })
    expect(await inOwnPartitions()).toBe(20)
    await same()
    expect((await demote()).tables).toEqual(moved.tables)
    expect(await inOwnPartitions()).toBe(0)
    await same()
    expect((await owner.query('select from pg_namespace where nspname = $1', [moved.schema])).rowCount).toBe(0)
    await promote()
    await same()
  })

  test('a promoted tenant goes on as every other', async () => {
    await promote()
    await asTenant(owner, acme, async (c) => {
      const { rows } = await c.query("insert into customers (name) values ('new') returning id, upper_name, tenant_id")
      expect(rows).toEqual([{ id: expect.any(String), upper_name: 'NEW', tenant_id: acme }])
      await c.query(`insert into orders (customer, total) values (${rows[0].id}, 1)`)
      await c.query('delete from tree where id = 2')
    })
    expect(await count('select count(*)::int as n from tree')).toBe(20 - 12)
    for (const [sql, code] of [
      ["insert into customers (name) values ('n1')", '23505'],
      ['insert into orders (customer, total) values (1, -1)', '23514'],
      ['insert into tree values (default, 99, 98)', '23503'],
      ['insert into orders (customer, doc) select customer, doc from orders where doc is not null limit 1', '23505'],
    ] as const) {
      expect((await failure(asTenant(owner, acme, (c) => c.query(sql)))).code, sql).toBe(code)
    }
    expect(
      (
        await failure(
          asTenant(owner, acme, (c) => c.query('delete from customers where id in (select customer from orders)')),
        )
      ).code,
    ).toMatch(/^23(503|001)$/)
    expect(await rowsOf(owner, 'tree', 'globex')).toHaveLength(20)
  })

  test('every index and key is on the own partition, which nobody may name', async () => {
    const { schema } = await promote()
    const { rows } = await owner.query(
      `select c.oid::regclass::text as name, c.relrowsecurity and c.relforcerowsecurity as forced,
        (select count(*)::int from pg_policy p where p.polrelid = c.oid) as policies,
        (select count(*) from pg_index i where i.indrelid = c.oid and i.indisvalid) = (select count(*) from pg_index i where i.indrelid = h.inhparent) as indexed,
        exists (select from pg_constraint k where k.conrelid = c.oid and k.contype = 'f' and k.conparentid <> 0)
          = exists (select from pg_constraint k where k.conrelid = h.inhparent and k.contype = 'f') as keyed,
        has_table_privilege('rowhouse_app', c.oid, 'select, insert, update, delete') as open
      from pg_class c join pg_inherits h on h.inhrelid = c.oid join pg_class parent on parent.oid = h.inhparent
      where c.relnamespace = $1::regnamespace and c.relkind = 'r' and parent.relnamespace <> 'rowhouse'::regnamespace`,
      [schema],
    )
    expect(rows).toHaveLength(5)
    for (const row of rows)
      expect(row).toMatchObject({ forced: true, policies: 2, indexed: true, keyed: true, open: false })
    expect(JSON.stringify(rows)).not.toContain(acme)
  })
})

describe('what cannot move, stays', () => {
  test('plain tables are not touched; tables in a circle, and what such tables refer to, are reported', async () => {
    await owner.query(`create table a (tenant_id text not null, id int, b int, primary key (tenant_id, id));
      create table b (tenant_id text not null, id int, a int, primary key (tenant_id, id), foreign key (tenant_id, a) references a);
      alter table a add foreign key (tenant_id, b) references b;
      create table target (tenant_id text not null, id int, primary key (tenant_id, id));
      create table stays (tenant_id text not null, target int, foreign key (tenant_id, target) references target)`)
    for (const table of ['a', 'b', 'target']) await protect(owner, table, { partition: true })
    await protect(owner, 'stays')
    await asTenant(owner, acme, (c) =>
      c.query('insert into target (id) values (1); insert into stays (target) values (1)'),
    )
    const schema = `s${number - 1}`
    expect((await promote()).skipped).toEqual({
      [`${schema}.a`]: 'foreign keys form a circle through it',
      [`${schema}.b`]: 'foreign keys form a circle through it',
      [`${schema}.target`]: `${schema}.stays refers to it and cannot move with it`,
    })
    expect(await inOwnPartitions()).toBe(20)
    expect(await rowsOf(owner, 'stays', acme)).toHaveLength(1)
  })

  test('an id that is no value of the column', async () => {
    await owner.query('create table numbers (account bigint not null, v int)')
    await protect(owner, 'numbers', { column: 'account', partition: true })
    expect((await promote()).skipped).toEqual({ [`s${number - 1}.numbers`]: 'the id is no value of its tenant column' })
  })
})

test('promoting twice takes in tables that came later', async () => {
  const { schema } = await promote()
  expect((await promote()).tables).toEqual({})
  await owner.query('create table later (tenant_id text not null, v int)')
  await protect(owner, 'later', { partition: true })
  await asTenant(owner, acme, (c) => c.query('insert into later (v) values (1), (2)'))
  expect(await promote()).toMatchObject({ schema, tables: { [`s${number - 1}.later`]: 2 } })
  expect(await rowsOf(owner, 'later', acme)).toHaveLength(2)
})

test('triggers are told nothing, and are there afterwards as they were', async () => {
  await owner.query(`create table log (entry text); grant insert on log to public; grant usage on schema s${number - 1} to public;
    create function log() returns trigger language plpgsql security definer set search_path = s${number - 1} as
      $$ begin insert into log values (tg_op); return coalesce(new, old); end $$;
    create trigger b before insert or delete on customers for each row execute function log();
    create trigger a after insert or update or delete on orders for each row execute function log();
    create trigger off before delete on orders for each row execute function log();
    alter table orders disable trigger off; alter table orders enable always trigger a`)
  await promote()
  await demote()
  await promote()
  expect((await owner.query('select from log')).rowCount).toBe(0)
  await asTenant(owner, acme, (c) =>
    c.query(
      "insert into customers (name) values ('logged'); delete from orders where id = (select min(id) from orders)",
    ),
  )
  expect((await owner.query('select entry from log order by 1')).rows).toEqual([
    { entry: 'DELETE' },
    { entry: 'INSERT' },
  ])
})

test('the plan that prepares it makes statements that run one by one', async () => {
  const { rows } = await owner.query('select statement from rowhouse.promotion_plan($1) order by step', [acme])
  const own = await owner.query(
    "select from rowhouse.protected_tables where layout = 'partitioned' and relation::text like 'rowhouse.%'",
  )
  expect(rows.length).toBe((5 + own.rowCount!) * 15 * 2)
  for (const { statement } of rows) await owner.query(statement)
  expect((await owner.query('select from rowhouse.promotion_plan($1)', [acme])).rowCount).toBe(0)
  const before = await rowsIn(owner, TABLES, acme)
  await promote()
  expect(await rowsIn(owner, TABLES, acme)).toEqual(before)
  expect((await owner.query("select from pg_constraint where conname like 'rowhouse_without_%'")).rowCount).toBe(0)
})

test('another isolation level is no place for it, and neither is a tenant that is being erased', async () => {
  for (const move of [promote, demote]) {
    await owner.query('begin isolation level repeatable read')
    expect((await failure(move())).code).toBe('25000')
    await owner.query('rollback')
  }
  await owner.query('select rowhouse.begin_erasure($1)', [acme])
  for (const move of [promote, demote]) expect((await failure(move())).code).toBe('RH004')
})

test('negative control: a row that is lost on the way is noticed', async () => {
  const before = await rowsOf(owner, 'orders', acme)
  await asTenant(owner, acme, (c) =>
    c.query('delete from tags; delete from orders where id = (select min(id) from orders)'),
  )
  await promote()
  expect(await rowsOf(owner, 'orders', acme)).not.toEqual(before)
  expect(await rowsOf(owner, 'orders', acme)).toEqual(before.slice(1))
})
