/** The tenant predicate never changes a result: random queries and writes, with it and without. */
import fc from 'fast-check'
import { type Kysely, sql } from 'kysely'
import { beforeAll, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { createFixture, rowhouseFor } from './fixture.ts'

const database = useDatabase()
const open = rowhouseFor(database)
beforeAll(async () => {
  await createFixture(database)
  const owner = await database.connect('owner')
  // Every table has a column k, with values that meet in some rows and miss in others.
  await owner.query(`
    create table one (tenant_id text not null, k integer, v integer);
    create table two (tenant_id text not null, k integer, v integer);
    create table shared (k integer, v integer);
    insert into shared select i, i % 3 from generate_series(3, 9) i;
    grant select, insert, update, delete on shared to rowhouse_app;
    select rowhouse.protect_table('one');
    select rowhouse.protect_table('two');`)
  for (const tenant of ['acme', 'globex']) {
    const app = await database.connect('app')
    await app.query(`begin; set local role rowhouse_app; set local app.tenant_id = '${tenant}';
      insert into one (k, v) select nullif(i, 4), i % 4 from generate_series(1, 7) i;
      insert into two (k, v) select nullif(i, 6), i % 3 from generate_series(5, 11) i; commit`)
  }
})

type Any = Kysely<any>
type Build = (db: Any) => any

const tables = fc.constantFrom('one', 'two', 'shared', 'public.one')
const joins = fc.constantFrom('innerJoin', 'leftJoin', 'rightJoin', 'fullJoin', 'crossJoin', 'leftJoinLateral')
const aliases = ['p', 'q', 'r', 's']

interface Source {
  table: string
  join: string
  on: number
}

/** A from clause of up to four tables, whose names may be those of common table expressions. */
const sources = fc.array(fc.record({ table: tables, join: joins, on: fc.nat(3) }), { minLength: 1, maxLength: 4 })

function from(db: Any, list: Source[]): any {
  const [first, ...others] = list
  let query: any = db.selectFrom(`${first!.table} as p`)
  others.forEach(({ table, join, on }, index) => {
    const alias = aliases[index + 1]!
    if (join === 'crossJoin') query = query.crossJoin(`${table} as ${alias}`)
    else if (join === 'leftJoinLateral') {
      query = query.leftJoinLateral(
        (eb: any) => eb.selectFrom(table).selectAll().whereRef('k', '=', 'p.k').as(alias),
        (clause: any) => clause.onTrue(),
      )
    } else {
      query = query[join](`${table} as ${alias}`, (clause: any) =>
        on === 0
          ? clause.onRef(`${alias}.k`, '=', 'p.k')
          : clause
              .onRef(`${alias}.k`, '=', 'p.k')
              .on((eb: any) => eb.or([eb(`${alias}.v`, '<', on), eb('p.v', 'is', null)])),
      )
    }
  })
  return query
}

const conditions = fc.constantFrom<((query: any) => any)[]>(
  ...[
    (query: any) => query,
    (query: any) => query.where('p.v', '>', 0),
    (query: any) => query.where(sql`p.k = 5 or p.v = 1`),
    (query: any) => query.where((eb: any) => eb.or([eb('p.k', 'is', null), eb('p.v', '=', 2)])),
    (query: any) =>
      query.where((eb: any) => eb.exists(eb.selectFrom('two').select('two.k').whereRef('two.k', '=', 'p.k'))),
    (query: any) =>
      query.where((eb: any) => eb.not(eb.exists(eb.selectFrom('one').select('one.k').whereRef('one.v', '=', 'p.v')))),
    (query: any) =>
      query.where('p.k', 'in', (eb: any) => eb.selectFrom('one').select('one.k').where('one.k', 'is not', null)),
  ].map((condition) => [condition]),
)

const selects: fc.Arbitrary<Build> = fc
  .record({
    list: sources,
    condition: conditions,
    cte: fc.constantFrom('none', 'one', 'two', 'recursive'),
    union: fc.boolean(),
    count: fc.boolean(),
  })
  .map(({ list, condition, cte, union, count }) => (db) => {
    let creator: any = db
    if (cte === 'recursive') {
      creator = db.withRecursive('one(k, v)', (e: any) => e.selectFrom('shared').select(['k', 'v']) as any)
    } else if (cte !== 'none') {
      creator = db.with(cte, (e: any) => e.selectFrom('public.two').select(['k', sql`v + 1`.as('v')]))
    }
    const columns = list.flatMap((_, index) => [
      sql.ref(`${aliases[index]}.k`).as(`k${index}`),
      sql.ref(`${aliases[index]}.v`).as(`v${index}`),
    ])
    let query = condition[0]!(from(creator, list))
    query = count ? query.select(sql`count(*)`.as('n')) : query.select(columns)
    if (union && !count && list.length === 1)
      query = query.unionAll(db.selectFrom('two').select(['k as k0', 'v as v0']))
    return query
  })

const writes: fc.Arbitrary<Build> = fc
  .record({ target: fc.constantFrom('one', 'two', 'public.one'), other: tables, kind: fc.nat(5), limit: fc.nat(8) })
  .map(({ target, other, kind, limit }) => (db) => {
    switch (kind) {
      case 0:
        return db.updateTable(`${target} as u`).set({ v: 100 }).where('u.k', '>', limit)
      case 1:
        return db
          .updateTable(`${target} as u`)
          .from(`${other} as o`)
          .set((eb: any) => ({ v: eb.ref('o.v') }))
          .whereRef('o.k', '=', 'u.k')
          .where('o.v', '=', limit % 3)
      case 2:
        return db.deleteFrom(target).where(sql<boolean>`k = 5 or v = 1`)
      case 3:
        return db.deleteFrom(`${target} as d`).using(`${other} as o`).whereRef('o.k', '=', 'd.k')
      case 4:
        return db
          .insertInto(target)
          .columns(['k', 'v'])
          .expression(db.selectFrom(`${other} as o`).select(['o.k', 'o.v']).where('o.k', '>', limit))
      default:
        return db
          .with('changed', (e: any) => e.updateTable(target).set({ v: 7 }).where('k', '<', limit).returning(['k', 'v']))
          .deleteFrom(other === target ? 'shared' : other)
          .where('k', 'in', (eb: any) => eb.selectFrom('changed').select('k'))
    }
  })

const sorted = (rows: unknown[]) => rows.map((row) => JSON.stringify(row)).sort()

async function outcome(run: () => Promise<unknown>): Promise<unknown> {
  return run().catch((error: Error & { code?: string }) => `${error.code}: ${error.message}`)
}

test('reads', async () => {
  const plain = open({ predicate: false }).kysely('acme') as Any
  const predicated = open().kysely('acme') as Any
  await predicated.selectFrom('one').selectAll().execute()
  let changed = 0
  await fc.assert(
    fc.asyncProperty(selects, async (build) => {
      const [expected, actual] = await Promise.all([
        outcome(async () => sorted(await build(plain).execute())),
        outcome(async () => sorted(await build(predicated).execute())),
      ])
      if (build(plain).compile().sql !== build(predicated).compile().sql) changed++
      expect(actual).toEqual(expected)
    }),
    { numRuns: 400 },
  )
  // The comparison would prove nothing if the queries were the same.
  expect(changed).toBeGreaterThan(200)
})

test('writes', async () => {
  const rollback = new Error('rollback')
  const plain = open({ predicate: false })
  const predicated = open()
  const effect = async (rowhouse: typeof plain, build: Build) => {
    let seen: unknown
    const run = rowhouse.withTenant('acme', async (db) => {
      const [result] = await build(db as Any).execute()
      const states = []
      for (const table of ['one', 'two', 'shared']) {
        states.push(sorted(await (db as Any).selectFrom(table).select(['k', 'v']).execute()))
      }
      seen = [String(result.numUpdatedRows ?? result.numDeletedRows ?? result.numInsertedOrUpdatedRows), states]
      throw rollback
    })
    return run.catch((error) => (error === rollback ? seen : `${error.code}: ${error.message}`))
  }
  await fc.assert(
    fc.asyncProperty(writes, async (build) => {
      const expected = await effect(plain, build)
      expect(await effect(predicated, build)).toEqual(expected)
    }),
    { numRuns: 120 },
  )
})
