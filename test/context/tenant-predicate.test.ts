import { DummyDriver, Kysely, PostgresAdapter, PostgresIntrospector, PostgresQueryCompiler, sql } from 'kysely'
import { describe, expect, test } from 'vitest'
import { addTenantPredicate, type TenantTable } from '../../src/context/tenant-predicate.ts'

const db = new Kysely<any>({
  dialect: {
    createAdapter: () => new PostgresAdapter(),
    createDriver: () => new DummyDriver(),
    createIntrospector: (kysely) => new PostgresIntrospector(kysely),
    createQueryCompiler: () => new PostgresQueryCompiler(),
  },
})
const table = (name: string, more: Partial<TenantTable> = {}): TenantTable => ({
  schema: 'public',
  table: name,
  column: 'tenant_id',
  type: 'text',
  visible: true,
  ...more,
})
const TABLES: TenantTable[] = [
  table('a'),
  table('b'),
  table('Odd "name"'),
  table('hidden', { schema: 'private', visible: false }),
  table('numbered', { column: 'org', type: 'integer' }),
  table('uuids', { type: 'uuid' }),
]

/** The SQL of a query with the predicate, without quotes. */
function withPredicate(query: { compile(): { query: any } }, tenantId = 'acme', tables = TABLES): string {
  const node = addTenantPredicate(query.compile().query, tables, tenantId)
  return new PostgresQueryCompiler().compileQuery(node, {} as any).sql.replaceAll('"', '')
}

describe('where the predicate stands', () => {
  test.each([
    ['select', db.selectFrom('a').selectAll(), 'select * from a where a.tenant_id = $1'],
    ['alias', db.selectFrom('a as x').selectAll(), 'select * from a as x where x.tenant_id = $1'],
    ['schema', db.selectFrom('public.a').selectAll(), 'select * from public.a where public.a.tenant_id = $1'],
    ['another schema', db.selectFrom('other.a').selectAll(), 'select * from other.a'],
    [
      'withSchema',
      db.withSchema('private').selectFrom('hidden').selectAll(),
      'select * from private.hidden where private.hidden.tenant_id = $1',
    ],
    ['not visible without its schema', db.selectFrom('hidden').selectAll(), 'select * from hidden'],
    ['other tables', db.selectFrom('c').selectAll(), 'select * from c'],
    [
      'several tables',
      db.selectFrom(['a', 'b as y', 'c']).selectAll(),
      'select * from a, b as y, c where a.tenant_id = $1 and y.tenant_id = $2',
    ],
    [
      'an "or" is put in parentheses',
      db.selectFrom('a').selectAll().where(sql<boolean>`x or y`).where('z', '=', 1),
      'select * from a where a.tenant_id = $1 and (x or y and z = $2)',
    ],
    [
      'inner join',
      db.selectFrom('a').innerJoin('b', 'b.x', 'a.x').selectAll(),
      'select * from a inner join b on b.tenant_id = $1 and (b.x = a.x) where a.tenant_id = $2',
    ],
    [
      'left join',
      db.selectFrom('c').leftJoin('b as y', 'y.x', 'c.x').selectAll(),
      'select * from c left join b as y on y.tenant_id = $1 and (y.x = c.x)',
    ],
    [
      'right join',
      db.selectFrom('a').rightJoin('b', 'b.x', 'a.x').selectAll(),
      'select * from a right join b on b.x = a.x',
    ],
    [
      'full join',
      db.selectFrom('a').fullJoin('b', 'b.x', 'a.x').selectAll(),
      'select * from a full join b on b.x = a.x',
    ],
    [
      'inner join before a right join',
      db.selectFrom('c').innerJoin('a', 'a.x', 'c.x').rightJoin('d', 'd.x', 'a.x').selectAll(),
      'select * from c inner join a on a.tenant_id = $1 and (a.x = c.x) right join d on d.x = a.x',
    ],
    [
      'cross join',
      db.selectFrom('c').crossJoin('b').selectAll(),
      'select * from c cross join b where b.tenant_id = $1',
    ],
    [
      'cross join before a full join',
      db.selectFrom('c').crossJoin('b').fullJoin('d', 'd.x', 'b.x').selectAll(),
      'select * from c cross join b full join d on d.x = b.x',
    ],
    [
      'subquery in from and in where',
      db
        .selectFrom(db.selectFrom('a').select('x').as('s'))
        .selectAll()
        .where('x', 'in', db.selectFrom('b').select('x')),
      'select * from (select x from a where a.tenant_id = $1) as s where x in (select x from b where b.tenant_id = $2)',
    ],
    [
      'exists',
      db
        .selectFrom('c')
        .selectAll()
        .where((eb) => eb.exists(eb.selectFrom('a').select('x').whereRef('a.x', '=', 'c.x'))),
      'select * from c where exists (select x from a where a.tenant_id = $1 and (a.x = c.x))',
    ],
    [
      'set operations',
      db.selectFrom('a').select('x').union(db.selectFrom('b').select('x')),
      'select x from a where a.tenant_id = $1 union select x from b where b.tenant_id = $2',
    ],
    [
      'body of a common table expression',
      db
        .with('t', (e) => e.selectFrom('a').selectAll())
        .selectFrom('t')
        .selectAll(),
      'with t as (select * from a where a.tenant_id = $1) select * from t',
    ],
    [
      'a common table expression with the name of a table',
      db
        .with('a', (e) => e.selectFrom('c').selectAll())
        .selectFrom('a')
        .selectAll(),
      'with a as (select * from c) select * from a',
    ],
    [
      'the same, read in a subquery that was built by itself',
      db
        .with('a', (e) => e.selectFrom('c').selectAll())
        .selectFrom(db.selectFrom('a').selectAll().as('s'))
        .selectAll(),
      'with a as (select * from c) select * from (select * from a) as s',
    ],
    [
      'the table itself, named with its schema beside such an expression',
      db
        .with('a', (e) => e.selectFrom('c').selectAll())
        .selectFrom('public.a')
        .selectAll(),
      'with a as (select * from c) select * from public.a where public.a.tenant_id = $1',
    ],
    [
      'update',
      db.updateTable('a').set({ x: 1 }).where('y', '=', 2),
      'update a set x = $1 where a.tenant_id = $2 and (y = $3)',
    ],
    [
      'update from',
      db.updateTable('a as u').from('b').set({ x: 1 }).whereRef('b.x', '=', 'u.x'),
      'update a as u set x = $1 from b where u.tenant_id = $2 and b.tenant_id = $3 and (b.x = u.x)',
    ],
    ['delete', db.deleteFrom('a'), 'delete from a where a.tenant_id = $1'],
    [
      'delete using',
      db.deleteFrom('a').using('b').whereRef('b.x', '=', 'a.x'),
      'delete from a using b where a.tenant_id = $1 and b.tenant_id = $2 and (b.x = a.x)',
    ],
    ['insert', db.insertInto('a').values({ x: 1 }), 'insert into a (x) values ($1)'],
    [
      'insert from select',
      db.insertInto('a').columns(['x']).expression(db.selectFrom('b').select('x')),
      'insert into a (x) select x from b where b.tenant_id = $1',
    ],
    ['quoted name', db.selectFrom('Odd "name"').selectAll(), 'select * from Odd name where Odd name.tenant_id = $1'],
    [
      'raw sql',
      db
        .selectFrom('c')
        .selectAll()
        .where(sql<boolean>`x in (${db.selectFrom('a').select('x')})`),
      'select * from c where x in ((select x from a))',
    ],
    ['another column', db.selectFrom('a').selectAll(), 'select * from a where a.tenant_id = $1'],
  ])('%s', (_name, query, expected) => {
    expect(withPredicate(query)).toBe(expected)
  })

  test('a tenant id that the column type can not hold gets none', () => {
    expect(withPredicate(db.selectFrom('numbered').selectAll(), '42')).toBe(
      'select * from numbered where numbered.org = $1',
    )
    for (const id of ['acme', '99999999999', '4-2']) {
      expect(withPredicate(db.selectFrom('numbered').selectAll(), id)).toBe('select * from numbered')
    }
    expect(withPredicate(db.selectFrom('uuids').selectAll(), 'acme')).toBe('select * from uuids')
    expect(withPredicate(db.selectFrom('uuids').selectAll(), '0c5b3bde-9c1b-4e0f-8f55-0a7c3ad4b0a1')).toContain('where')
  })
})
