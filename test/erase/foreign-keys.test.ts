// Erasure deletes in an order that every foreign key allows; where there is none, in one statement.

import type pg from 'pg'
import { beforeAll, describe, expect, test } from 'vitest'
import { failure, protect, provision } from '../protect/support.ts'
import { useDatabase } from '../setup/database.ts'
import { erase, rowsIn } from './support.ts'

const database = useDatabase()
let owner: pg.Client

beforeAll(async () => {
  owner = await database.connect('owner')
  await provision(owner, 'kept')
})

const TABLE = (name: string, ...columns: readonly string[]) =>
  `create table ${name} (${['tenant_id text not null', 'id int', 'ref int', ...columns, 'primary key (tenant_id, id)'].join(', ')});`
const KEY = (from: string, to: string, options = '', columns = 'tenant_id, ref') =>
  `alter table ${from} add foreign key (${columns}) references ${to} ${options.replace('ref', columns.slice('tenant_id, '.length))};`

const ACTIONS = ['no action', 'restrict', 'cascade', 'set null (ref)', 'set null', 'set default (ref)'] as const
const DEFERRALS = ['', 'deferrable initially deferred'] as const

interface Shape {
  readonly name: string
  readonly sql: string
  /** As SQL writes them; a table that refers to others comes after them, except in circles. */
  readonly tables: readonly string[]
}

/** a <- b <- c, and d refers to a and c. */
const CHAIN = (options: string) =>
  ['a', 'b', 'c'].map((name) => TABLE(name)).join('') +
  TABLE('d', 'second int') +
  KEY('b', 'a', options) +
  KEY('c', 'b', options) +
  KEY('d', 'c', options) +
  KEY('d', 'a', options, 'tenant_id, second')

/** a -> b -> c -> a; the circle refers to low and is referred to by high. */
const CIRCLE = (options: string) =>
  ['a', 'b', 'c', 'low', 'high'].map((name) => TABLE(name, 'second int')).join('') +
  KEY('a', 'b', options) +
  KEY('b', 'c', options) +
  KEY('c', 'a', options) +
  KEY('c', 'low', options, 'tenant_id, second') +
  KEY('high', 'b', options)

const SHAPES: readonly Shape[] = [
  ...ACTIONS.flatMap((action) =>
    DEFERRALS.map((deferral) => ({
      name: `a chain, on delete ${action} ${deferral}`,
      sql: CHAIN(`on delete ${action} ${deferral}`),
      tables: ['a', 'b', 'c', 'd'],
    })),
  ),
  ...ACTIONS.map((action) => ({
    name: `a table that refers to itself, on delete ${action}`,
    sql: TABLE('a') + KEY('a', 'a', `on delete ${action}`),
    tables: ['a'],
  })),
  ...ACTIONS.flatMap((action) =>
    DEFERRALS.map((deferral) => ({
      name: `a circle of three, on delete ${action} ${deferral}`,
      sql: CIRCLE(`on delete ${action} ${deferral}`),
      tables: ['low', 'a', 'b', 'c', 'high'],
    })),
  ),
  {
    name: 'two circles, one of them in other schemas with quoted names',
    sql: `${TABLE('a') + TABLE('b') + KEY('a', 'b') + KEY('b', 'a')}
      create schema "na""me 'x'"; ${TABLE(`"na""me 'x'"."Ta;ble $$"`)} ${TABLE(`"na""me 'x'"."%I %s"`)}
      ${KEY(`"na""me 'x'"."Ta;ble $$"`, `"na""me 'x'"."%I %s"`)} ${KEY(`"na""me 'x'"."%I %s"`, `"na""me 'x'"."Ta;ble $$"`)}`,
    tables: ['a', 'b', `"na""me 'x'"."Ta;ble $$"`, `"na""me 'x'"."%I %s"`],
  },
  {
    name: 'foreign keys of partitions, in both directions',
    sql: `create table p (tenant_id text not null, id int, ref int, primary key (tenant_id, id)) partition by range (id);
      create table p_1 partition of p for values from (0) to (2); create table p_2 partition of p default;
      ${TABLE('a') + TABLE('b')} ${KEY('p_1', 'a')} ${KEY('b', 'p')}`,
    tables: ['a', 'p', 'b'],
  },
  {
    name: 'a key without the tenant',
    sql: `create table a (tenant_id text not null, id int, ref int, number int generated always as identity unique, primary key (tenant_id, id));
      create table b (tenant_id text not null, id int, ref int, number int references a (number) on delete restrict, primary key (tenant_id, id));`,
    tables: ['a', 'b'],
  },
  {
    name: 'a circle of 60 tables',
    sql: `do $$ begin for i in 1 .. 60 loop
        execute format('create table t%s (tenant_id text not null, id int, ref int, primary key (tenant_id, id))', i);
      end loop; for i in 1 .. 60 loop
        execute format('alter table t%s add foreign key (tenant_id, ref) references t%s', i, i % 60 + 1);
      end loop; end $$`,
    tables: Array.from({ length: 60 }, (_, index) => `t${index + 1}`),
  },
]

/** Rows 1 to 3 of both tenants; each refers to the row before, or the last one, of what the table refers to. */
async function fill(tables: readonly string[], gone: string): Promise<void> {
  await owner.query('begin; set constraints all deferred')
  for (const table of tables) {
    await owner.query(
      `insert into ${table} (tenant_id, id) select t, g from unnest($1::text[]) t, generate_series(1, 3) g`,
      [[gone, 'kept']],
    )
  }
  for (const table of tables) await owner.query(`update ${table} set ref = (id + 1) % 3 + 1`)
  await owner.query('commit')
}

describe('erased, and counted', () => {
  for (const [index, { name, sql, tables }] of SHAPES.entries()) {
    test(name, async () => {
      const gone = `gone_${index}`
      await provision(owner, gone)
      await owner.query(`create schema ${gone}; set search_path = ${gone}, public; ${sql}`)
      await fill(tables, gone)
      for (const table of tables) await protect(owner, table)
      const kept = await rowsIn(owner, tables, 'kept')
      expect(Object.values(kept).every((rows) => rows.length === 3)).toBe(true)

      const receipt = await erase(owner, gone)
      for (const rows of Object.values(await rowsIn(owner, tables, gone))) expect(rows).toEqual([])
      expect(await rowsIn(owner, tables, 'kept')).toEqual(kept)
      expect(Object.values(receipt.tables).filter((rows) => rows > 0)).toEqual(tables.map(() => 3))
      expect(receipt).toMatchObject({ rows: 3 * tables.length, partitionsDropped: 0, residue: { rows: 0 } })
      // The next shape starts from nothing.
      await owner.query(`reset search_path; drop schema ${gone} cascade; drop schema if exists "na""me 'x'" cascade`)
    })
  }
})

test('negative control: in another order, or one table after the other, foreign keys refuse', async () => {
  await provision(owner, 'control')
  await owner.query(
    `create schema control; set search_path = control, public; ${CHAIN('')} ${CIRCLE('').replaceAll(/\b([abc])\b/g, 'circle_$1')}`,
  )
  await fill(['a', 'b', 'c', 'd'], 'control')
  await fill(['low', 'circle_a', 'circle_b', 'circle_c', 'high'], 'control')
  const remove = (table: string) => failure(owner.query(`delete from ${table} where tenant_id = 'control'`))
  expect((await remove('a')).code).toBe('23503')
  for (const table of ['circle_a', 'circle_b', 'circle_c']) expect((await remove(table)).code).toBe('23503')
  await owner.query('reset search_path')
})
