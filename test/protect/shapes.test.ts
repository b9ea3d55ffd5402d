// Every shape of table that protect_table must take: each ends up separated, erasable, and protected twice changes
// nothing.

import type pg from 'pg'
import { beforeAll, describe, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { asTenant, failure, protect, provision } from './support.ts'

const database = useDatabase()
let owner: pg.Client

/** Two tenants whose ids are values of the tenant column. */
const TENANTS = {
  text: ['acme', 'globex'],
  uuid: ['a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'],
  integer: ['17', '42'],
} as const

interface Shape {
  readonly name: string
  readonly ids: keyof typeof TENANTS
  /** Creates the table {@link Shape.table}; it has a column `v` of type integer. */
  readonly sql: string
  readonly table: string
  readonly column?: string
  /** How many relations must carry the policies. */
  readonly relations?: number
  readonly partition?: boolean
}

const SHAPES: readonly Shape[] = [
  ...(['text', 'varchar(64)', 'varchar', 'uuid', 'integer', 'bigint'] as const).map(
    (type): Shape => ({
      name: `tenant column of type ${type}`,
      ids: type === 'uuid' ? 'uuid' : type === 'integer' || type === 'bigint' ? 'integer' : 'text',
      sql: `create table types."${type}" (tenant_id ${type}, v integer)`,
      table: `types."${type}"`,
    }),
  ),
  ...(['text', 'varchar(64)', 'uuid', 'bigint'] as const).map(
    (type): Shape => ({
      name: `tenant column of type ${type}, partitioned by tenant`,
      ids: type === 'uuid' ? 'uuid' : type === 'bigint' ? 'integer' : 'text',
      sql: `create table types."${type} p" (tenant_id ${type}, v integer)`,
      table: `types."${type} p"`,
      partition: true,
      relations: 18,
    }),
  ),
  ...(['text', 'varchar', 'uuid', 'bigint'] as const).map(
    (type): Shape => ({
      name: `tenant column of a domain over ${type}`,
      ids: type === 'uuid' ? 'uuid' : type === 'bigint' ? 'integer' : 'text',
      sql: `create domain types."d ${type}" as ${type}; create domain types."dd ${type}" as types."d ${type}" not null;
          create table types."domain ${type}" (tenant_id types."dd ${type}", v integer)`,
      table: `types."domain ${type}"`,
    }),
  ),
  {
    name: 'the domain of rowhouse',
    ids: 'text',
    sql: 'create table types.own_domain (tenant_id rowhouse.tenant_id, v integer, primary key (tenant_id, v))',
    table: 'types.own_domain',
    partition: true,
    relations: 18,
  },
  {
    name: 'no tenant column',
    ids: 'text',
    sql: 'create table types.no_column (v integer)',
    table: 'types.no_column',
  },
  {
    name: 'another name of the tenant column',
    ids: 'text',
    sql: 'create table types.other_column (org text, v integer)',
    table: 'types.other_column',
    column: 'org',
  },
  {
    name: 'hostile names',
    ids: 'text',
    sql: `create schema "we""ird SCHEMA";
          create table "we""ird SCHEMA"."T A'ble $$" ("ten""ant %I $$ ' id" text, v integer, "we""ird; drop" serial,
            primary key ("ten""ant %I $$ ' id", "we""ird; drop"))`,
    table: `"we""ird SCHEMA"."T A'ble $$"`,
    column: `ten"ant %I $$ ' id`,
  },
  {
    name: 'hostile names, partitioned by tenant',
    ids: 'uuid',
    sql: `create schema "we""ird SCHEMA 2";
          create table "we""ird SCHEMA 2"."T A'ble $$ %s" ("ten""ant %I $$ ' id" uuid, v integer, "we""ird; drop" serial,
            primary key ("ten""ant %I $$ ' id", "we""ird; drop"))`,
    table: `"we""ird SCHEMA 2"."T A'ble $$ %s"`,
    column: `ten"ant %I $$ ' id`,
    partition: true,
    relations: 18,
  },
  {
    name: 'a name that Postgres has too',
    ids: 'text',
    sql: 'create table public.pg_class (tenant_id text, v integer, "user" text)',
    table: 'public.pg_class',
  },
  {
    name: 'partitioned by range, with a default partition',
    ids: 'text',
    sql: `create table types.by_range (tenant_id text, v integer) partition by range (v);
          create table types.by_range_1 partition of types.by_range for values from (0) to (100);
          create table types.by_range_d partition of types.by_range default`,
    table: 'types.by_range',
    relations: 3,
  },
  {
    name: 'partitioned by list, then by range, in another schema',
    ids: 'text',
    sql: `create schema other;
          create table types.two_levels (tenant_id text not null, v integer, id integer default 0, primary key (tenant_id, v, id)) partition by list (tenant_id);
          create table types.two_levels_acme partition of types.two_levels for values in ('acme') partition by range (v);
          create table other.two_levels_acme_1 partition of types.two_levels_acme for values from (minvalue) to (maxvalue);
          create table types.two_levels_rest partition of types.two_levels default`,
    table: 'types.two_levels',
    relations: 4,
  },
  {
    name: 'partitioned by hash, columns in another order',
    ids: 'text',
    sql: `create table types.by_hash (tenant_id text not null, v integer) partition by hash (v);
          create table types.by_hash_0 (gone integer, v integer, tenant_id text not null);
          alter table types.by_hash_0 drop column gone;
          alter table types.by_hash attach partition types.by_hash_0 for values with (modulus 1, remainder 0)`,
    table: 'types.by_hash',
    relations: 2,
  },
  {
    name: 'serial, identity and generated columns',
    ids: 'text',
    sql: `create table types.numbers (s serial, i integer generated always as identity, d integer generated by default as identity,
            g integer generated always as (v * 2) stored, tenant_id text, v integer)`,
    table: 'types.numbers',
  },
  {
    name: 'an unlogged table with a dropped column and a rule',
    ids: 'text',
    sql: `create unlogged table types.unlogged (gone integer, tenant_id text, v integer);
          alter table types.unlogged drop column gone;
          create rule note as on delete to types.unlogged do also notify deleted`,
    table: 'types.unlogged',
  },
  {
    name: 'an exclusion constraint',
    ids: 'integer',
    sql: `create table types.excluded (tenant_id integer, v integer, during int4range default 'empty', exclude using gist (during with &&))`,
    table: 'types.excluded',
  },
  {
    name: "policies of the user's own",
    ids: 'text',
    sql: `create table types.with_policies (tenant_id text, v integer);
          alter table types.with_policies enable row level security;
          create policy open on types.with_policies using (true)`,
    table: 'types.with_policies',
  },
  {
    name: 'half protected before: right names, wrong policies',
    ids: 'text',
    sql: `create table types.half (tenant_id text not null, v integer);
          alter table types.half enable row level security;
          create policy rowhouse_tenant on types.half using (true);
          create policy rowhouse_isolation on types.half as permissive using (tenant_id = current_setting('app.tenant_id', true))`,
    table: 'types.half',
  },
]

beforeAll(async () => {
  owner = await database.connect('owner')
  await owner.query('create schema types')
  await provision(owner, ...Object.values(TENANTS).flat())
})

describe.each(SHAPES)('$name', ({ ids, sql, table, column = 'tenant_id', relations = 1, partition = false }) => {
  const [one, other] = TENANTS[ids]
  const options = { column, partition }

  test('separates tenants', async () => {
    await owner.query(sql)
    const report = await protect(owner, table, options)
    expect(report.steps.every(({ done }) => done)).toBe(true)
    for (const tenantId of [one, other]) {
      for (const v of [1, 2])
        await asTenant(owner, tenantId, (c) => c.query(`insert into ${table} (v) values ($1)`, [v]))
    }
    const seen = await asTenant(owner, one, (c) => c.query(`select ${quoted(column)}::text as t, v from ${table}`))
    expect(seen.rows.map(({ t }) => t)).toEqual([one, one])
    const updated = await asTenant(owner, one, (c) => c.query(`update ${table} set v = 3 where v = 2`))
    expect(updated.rowCount).toBe(1)
    const deleted = await asTenant(owner, one, (c) => c.query(`delete from ${table} where v = 3`))
    expect(deleted.rowCount).toBe(1)
    const left = await asTenant(owner, other, (c) => c.query(`select v from ${table} order by v`))
    expect(left.rows).toEqual([{ v: 1 }, { v: 2 }])
  })

  test('refuses a row of another tenant, a row that moves, and a row without a tenant', async () => {
    const insert = asTenant(owner, one, (c) =>
      c.query(`insert into ${table} (${quoted(column)}, v) values ($1, 9)`, [other]),
    )
    expect((await failure(insert)).code).toBe('42501')
    const move = asTenant(owner, one, (c) => c.query(`update ${table} set ${quoted(column)} = $1`, [other]))
    expect((await failure(move)).code).toBe('42501')
    await owner.query('begin; set local role rowhouse_app')
    expect((await failure(owner.query(`insert into ${table} (v) values (9)`))).code).toBe('RH001')
    await owner.query('rollback; begin; set local role rowhouse_app')
    expect((await owner.query(`select from ${table}`)).rowCount).toBe(0)
    await owner.query('rollback')
  })

  test('carries the policies on every partition, and no privileges there', async () => {
    const { rows } = await owner.query(
      `select c.oid::regclass::text as name, c.relrowsecurity and c.relforcerowsecurity as forced,
         (select array_agg(p.polname order by p.polname) from pg_policy p
           where p.polrelid = c.oid and p.polname like 'rowhouse%')::text[] as policies,
         c.oid <> $1::regclass and has_any_column_privilege('rowhouse_app', c.oid, 'select, insert, update') as open
       from pg_class c
       where c.oid = $1::regclass or c.oid in (select t.relid from pg_partition_tree($1::regclass) t)`,
      [table],
    )
    expect(rows).toHaveLength(relations)
    for (const row of rows) {
      expect(row).toMatchObject({ forced: true, open: false, policies: ['rowhouse_isolation', 'rowhouse_tenant'] })
    }
  })

  test('needs no step when it is protected again', async () => {
    expect((await protect(owner, table, options)).steps).toEqual([])
    expect((await protect(owner, table, { ...options, dryRun: true })).steps).toEqual([])
  })
})

test('every tenant of every shape is erased, and nothing else', async () => {
  for (const tenantId of [TENANTS.text[0], TENANTS.uuid[0], TENANTS.integer[0]]) {
    await owner.query('select rowhouse.erase_tenant($1)', [tenantId])
  }
  for (const { table, ids, column = 'tenant_id' } of SHAPES) {
    const [, other] = TENANTS[ids]
    const { rows } = await asTenant(owner, other, (c) => c.query(`select ${quoted(column)}::text as t from ${table}`))
    expect(rows, table).toEqual([{ t: other }, { t: other }])
  }
})

function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}
