// Whatever the tables and their foreign keys: after an erasure nothing of the tenant is left, every row of the others is
// untouched, and the receipt has the right numbers.

import fc from 'fast-check'
import type pg from 'pg'
import { beforeAll, expect, test } from 'vitest'
import { failure, protect, provision } from '../protect/support.ts'
import { useDatabase } from '../setup/database.ts'
import { brokenReceipts, erase, preview, rowsIn } from './support.ts'

const database = useDatabase()
let owner: pg.Client
let run = 0

beforeAll(async () => {
  owner = await database.connect('owner')
})

const ACTIONS = ['no action', 'restrict', 'cascade', 'set null (ref)', 'set null'] as const
const MOST_TABLES = 5

/** A table, and what it refers to, if anything: itself, one before it or one after it. */
const table = fc.record({
  layout: fc.constantFrom('plain', 'partitioned', 'ranges'),
  references: fc.uniqueArray(
    fc.record({
      target: fc.nat(MOST_TABLES - 1),
      action: fc.constantFrom(...ACTIONS),
      deferred: fc.boolean(),
    }),
    { maxLength: 2, selector: ({ target }) => target },
  ),
  /** Number of rows of each of the three tenants. */
  rows: fc.tuple(fc.nat(4), fc.nat(4), fc.nat(4)),
})
const schema = fc.record({
  tables: fc.array(table, { minLength: 1, maxLength: MOST_TABLES }),
  promoted: fc.boolean(),
  historyOf: fc.option(fc.nat(MOST_TABLES - 1)),
  seed: fc.nat(1000),
})
type Schema = typeof schema extends fc.Arbitrary<infer T> ? T : never

const nameOf = (index: number) => `t${index}`

/** Creates the tables, fills them, protects them, and tells their names. */
async function create({ tables, historyOf, seed }: Schema, tenantIds: readonly string[]): Promise<string[]> {
  const names = tables.map((_table, index) => nameOf(index))
  for (const [index, { layout, references }] of tables.entries()) {
    const columns = references.map((_reference, number) => `ref${number} int`)
    await owner.query(`create table ${nameOf(index)} (
      ${['tenant_id text not null', 'id int', ...columns, 'primary key (tenant_id, id)'].join(', ')}
      ) ${layout === 'ranges' ? 'partition by range (id)' : ''}`)
    if (layout === 'ranges') {
      await owner.query(`create table ${nameOf(index)}_low partition of ${nameOf(index)} for values from (0) to (3);
        create table ${nameOf(index)}_rest partition of ${nameOf(index)} default`)
    }
  }
  for (const [index, { rows }] of tables.entries()) {
    for (const [tenant, count] of rows.entries()) {
      await owner.query(
        `insert into ${nameOf(index)} (tenant_id, id) select $1, g from generate_series(1, $2::int) g`,
        [tenantIds[tenant], count],
      )
    }
  }
  for (const [index, { references }] of tables.entries()) {
    for (const [number, { target, action, deferred }] of references.entries()) {
      const to = nameOf(target % tables.length)
      // Some row of the same tenant there, or none.
      await owner.query(`update ${nameOf(index)} t set ref${number} =
        (select id from ${to} o where o.tenant_id = t.tenant_id order by (o.id * 7 + t.id * 3 + ${seed}) % 5, o.id limit 1)`)
      await owner.query(`alter table ${nameOf(index)} add foreign key (tenant_id, ref${number}) references ${to}
        on delete ${action.replace('ref', `ref${number}`)} ${deferred ? 'deferrable initially deferred' : ''}`)
    }
  }
  if (historyOf !== null) {
    const name = nameOf(historyOf % tables.length)
    await owner.query(`create table history (tenant_id text, entry text);
      create function keep() returns trigger language plpgsql as
        $$ begin insert into history (entry) values (old.id::text); return null; end $$;
      create trigger keep after delete on ${name} for each row execute function keep()`)
    names.push('history')
  }
  for (const [index, name] of names.entries()) {
    await protect(owner, name, { partition: tables[index]?.layout === 'partitioned' })
  }
  return names
}

async function check(shape: Schema): Promise<void> {
  run++
  const tenantIds = ['a', 'b', 'c'].map((name) => `${name}_${run}`)
  const [gone, ...others] = tenantIds as [string, ...string[]]
  await provision(owner, ...tenantIds)
  await owner.query(`create schema r${run}; set search_path = r${run}`)
  try {
    const names = await create(shape, tenantIds)
    if (shape.promoted)
      for (const tenantId of [gone, others[0]!]) await owner.query('select rowhouse.promote_tenant($1)', [tenantId])
    const before = await rowsIn(owner, names, gone)
    const kept = [await rowsIn(owner, names, others[0]!), await rowsIn(owner, names, others[1]!)]
    const counts = Object.fromEntries(names.map((name) => [`r${run}.${name}`, before[name]!.length]))
    expect((await preview(owner, gone)).tables).toEqual(counts)

    const receipt = await erase(owner, gone)
    // What the trigger wrote meanwhile was erased, too.
    const logged =
      shape.historyOf === null
        ? {}
        : { [`r${run}.history`]: counts[`r${run}.${nameOf(shape.historyOf % shape.tables.length)}`]! }
    expect(receipt.tables).toEqual({ ...counts, ...logged })
    for (const rows of Object.values(await rowsIn(owner, names, gone))) expect(rows).toEqual([])
    expect([await rowsIn(owner, names, others[0]!), await rowsIn(owner, names, others[1]!)]).toEqual(kept)
  } finally {
    await owner.query(`reset search_path; drop schema r${run} cascade`)
  }
}

test('random tables and foreign keys', { timeout: 60_000 }, async () => {
  await fc.assert(fc.asyncProperty(schema, check), { numRuns: Number(process.env.RUNS ?? 8), endOnFailure: true })
  expect(await brokenReceipts(owner)).toEqual([])
})

test('negative control: a row that stays is noticed', async () => {
  const shape: Schema = {
    tables: [{ layout: 'plain', references: [], rows: [2, 1, 1] }],
    promoted: false,
    historyOf: null,
    seed: 1,
  }
  await check(shape)
  const definition = await owner.query(
    "select pg_get_functiondef('rowhouse.delete_all_tenant_rows(text, regclass[])'::regprocedure) as sql",
  )
  const asRowhouseOwner = (sql: string) => owner.query(`begin; set local role rowhouse_owner; ${sql}; commit`)
  await asRowhouseOwner(`create or replace function rowhouse.delete_all_tenant_rows(p_tenant text, p_except regclass[]) returns jsonb
    language plpgsql set search_path = pg_catalog, pg_temp as $$ begin return '{}'; end $$`)
  expect((await failure(check(shape))).message).toMatch(/2 rows of the tenant are left/)
  await asRowhouseOwner(definition.rows[0].sql)
  await check(shape)
})
