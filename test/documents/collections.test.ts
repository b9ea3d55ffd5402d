import type pg from 'pg'
import { beforeAll, describe, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { ACME, asOperator, expectError, useRowhouse } from './fixture.ts'

const database = useDatabase({ needs: ['pgvector'] })
const fixture = useRowhouse(database)
const collections = () => fixture.rowhouse.collections
let owner: pg.Client
let operator: pg.Client

beforeAll(async () => {
  owner = await database.connect('owner')
  operator = await database.connect('operator')
})

const rows = async (sql: string, ...values: unknown[]): Promise<any[]> => (await owner.query(sql, values)).rows

describe('create', () => {
  test('makes a protected table, partitioned by tenant, with an index on every partition', async () => {
    const created = await collections().create('papers', { dimensions: 4 })
    expect(created).toMatchObject({
      name: 'papers',
      table: 'rowhouse.documents_papers',
      dimensions: 4,
      metric: 'cosine',
      elementType: 'vector',
      efSearch: 120,
      m: 16,
      efConstruction: 128,
      indexed: true,
      created: true,
    })
    const tree = await rows(
      `select c.relkind, c.relrowsecurity and c.relforcerowsecurity as secure,
          (select count(*)::int from pg_policy where polrelid = c.oid) as policies,
          (select array_agg(am.amname::text order by am.amname) from pg_index i join pg_class ic on ic.oid = i.indexrelid
            join pg_am am on am.oid = ic.relam where i.indrelid = c.oid and i.indisvalid) as indexes
        from pg_partition_tree('rowhouse.documents_papers') t join pg_class c on c.oid = t.relid`,
    )
    expect(tree).toHaveLength(18)
    for (const relation of tree) {
      expect(relation).toEqual({
        relkind: expect.any(String),
        secure: true,
        policies: relation.relkind === 'p' ? expect.any(Number) : 2,
        indexes: ['btree', 'btree', 'gin', 'hnsw'],
      })
    }
    expect(
      await rows("select from rowhouse.protected_tables where relation = 'rowhouse.documents_papers'::regclass"),
    ).toHaveLength(1)
  })

  test('comments on the table, its columns and its index', async () => {
    const missing = await rows(
      `select a.attname from pg_attribute a where a.attrelid = 'rowhouse.documents_papers'::regclass and a.attnum > 0
          and col_description(a.attrelid, a.attnum) is null
        union all select indexrelid::regclass::text from pg_index join pg_class c on c.oid = indexrelid join pg_am m on m.oid = c.relam
          where indrelid = 'rowhouse.documents_papers'::regclass and amname = 'hnsw' and obj_description(indexrelid) is null
        union all select relid::regclass::text from pg_partition_tree('rowhouse.documents_papers') where obj_description(relid) is null`,
    )
    expect(missing).toEqual([])
  })

  test('again with the same options returns what there is', async () => {
    expect(await collections().create('papers', { dimensions: 4, m: 16 })).toMatchObject({
      created: false,
      dimensions: 4,
    })
  })

  test.for<[object, string]>([
    [{ dimensions: 5 }, 'collection "papers" exists already, with 4 dimensions'],
    [{ dimensions: 4, metric: 'l2' }, 'with the metric cosine'],
    [{ dimensions: 4, elementType: 'halfvec' }, 'with the element type vector'],
    [{ dimensions: 4, exactLimit: 1 }, 'with exact_limit'],
    [{ dimensions: 4, efSearch: 1 }, 'with ef_search 120'],
    [{ dimensions: 4, m: 8 }, 'with m 16'],
    [{ dimensions: 4, efConstruction: 100 }, 'with ef_construction 128'],
  ])('again with %o is a conflict', async ([options, message]) => {
    await expectError(collections().create('papers', options as never), 'invalid_collection', message)
  })

  test.for<[string, object, string]>([
    ['Papers', { dimensions: 4 }, 'name of the collection is not 1 to 48 small letters'],
    ['x', { dimensions: 0 }, 'at least 1 dimension'],
    ['x', { dimensions: 1.5 }, 'dimensions is not a whole number'],
    ['x', {}, 'dimensions'],
    ['x', { dimensions: 2001 }, 'at most 2000 dimensions, not 2001; the element type halfvec goes up to 4000'],
    ['x', { dimensions: 4001 }, 'at most 2000 dimensions \\(vector\\) or 4000 \\(halfvec\\), not 4001'],
    ['x', { dimensions: 4001, elementType: 'halfvec' }, 'not 4001'],
    ['x', { dimensions: 3, metric: 'euclid' }, 'metric is not cosine, inner_product or l2'],
    ['x', { dimensions: 3, elementType: 'bit' }, 'elementType is not vector or halfvec'],
    ['x', { dimensions: 3, m: 65 }, 'ef_construction is at least twice m'],
    ['x', { dimensions: 3, m: 1 }, 'm is less than 2'],
    ['x', { dimensions: 3, lists: 1 }, 'unrecognized key'],
  ])('%s with %o is refused', async ([name, options, message]) => {
    await expectError(collections().create(name, options as never), 'invalid_collection', message)
    expect(await rows("select from rowhouse.collections where name in ('x', 'Papers')")).toEqual([])
  })

  test('the widest of both element types', async () => {
    for (const [name, dimensions, elementType] of [
      ['wide', 2000, 'vector'],
      ['wider', 4000, 'halfvec'],
    ] as const) {
      await collections().create(name, { dimensions, elementType })
      const documents = fixture.rowhouse.tenant(ACME).documents(name)
      const embedding = Array.from({ length: dimensions }, (_, index) => 1 / (index + 1))
      await documents.upsert([{ id: 'x', content: 'x', embedding }])
      expect(await documents.search({ embedding, strategy: 'index', limit: 1 })).toMatchObject([
        { id: 'x', strategy: 'shared_index' },
      ])
      await collections().drop(name)
    }
  })

  test('a table of that name that is no collection is left alone', async () => {
    await owner.query('set role rowhouse_owner; create table rowhouse.documents_taken (id int); reset role')
    await expectError(
      collections().create('taken', { dimensions: 3 }),
      'invalid_collection',
      'there is a table rowhouse.documents_taken already',
    )
    await owner.query('set role rowhouse_owner; drop table rowhouse.documents_taken; reset role')
  })

  test('a collection whose table was dropped by hand can be created again', async () => {
    await collections().create('lost', { dimensions: 3 })
    await owner.query('set role rowhouse_owner; drop table rowhouse.documents_lost; reset role')
    expect(await collections().create('lost', { dimensions: 5 })).toMatchObject({ created: true, dimensions: 5 })
    await collections().drop('lost')
  })

  test('twice at once makes one', needs('parallelBackends'), async () => {
    const both = await Promise.all([1, 2].map(() => collections().create('raced', { dimensions: 3 })))
    expect(both.map(({ created }) => created).sort()).toEqual([false, true])
    await collections().drop('raced')
  })

  test('is for operators', needs('realRoles'), async () => {
    for (const call of [
      "create_collection('x', 3)",
      "index_collection('papers')",
      "configure_collection('papers', 1)",
      "drop_collection('papers')",
    ]) {
      await expect(fixture.app.query(`select rowhouse.${call}`)).rejects.toMatchObject({ code: '42501' })
    }
    expect((await fixture.app.query("select name from rowhouse.collections where name = 'papers'")).rows).toHaveLength(
      1,
    )
    await expect(fixture.app.query('delete from rowhouse.collections')).rejects.toMatchObject({ code: '42501' })
    await expect(fixture.app.query('truncate rowhouse.documents_papers')).rejects.toMatchObject({ code: '42501' })
  })
})

describe('index, configure, list, drop', () => {
  test('an index can wait for a bulk load', async () => {
    expect(await collections().create('loaded', { dimensions: 3, index: false })).toMatchObject({ indexed: false })
    const documents = fixture.rowhouse.tenant(ACME).documents('loaded')
    await documents.upsert([{ id: 'x', content: 'x', embedding: [1, 2, 3] }])
    // Says what it did, which is not what was asked for.
    expect(await documents.search({ embedding: [1, 2, 3], strategy: 'index' })).toMatchObject([
      { id: 'x', strategy: 'exact' },
    ])
    expect(await collections().index('loaded')).toBe(true)
    expect(await collections().index('loaded')).toBe(false)
    expect(await documents.search({ embedding: [1, 2, 3], strategy: 'index', limit: 1 })).toMatchObject([
      { strategy: 'shared_index' },
    ])
  })

  test('an index is built anew with other settings', async () => {
    expect(await collections().index('loaded', { m: 8, efConstruction: 32, maintenanceWorkMem: '32MB' })).toBe(true)
    expect(await collections().create('loaded', { dimensions: 3, m: 8, efConstruction: 32 })).toMatchObject({
      m: 8,
      indexed: true,
    })
    const [{ indexdef }] = await rows(
      "select pg_get_indexdef(indexrelid) as indexdef from pg_index where indrelid = 'rowhouse.documents_loaded'::regclass and pg_get_indexdef(indexrelid) like '%hnsw%'",
    )
    expect(indexdef).toContain("WITH (m='8', ef_construction='32')")
    await expectError(collections().index('loaded', { m: 30 }), 'invalid_collection', 'at least twice m')
    await expectError(collections().index('nowhere'), 'collection_not_found')
    const [memory] = await asOperator(
      operator,
      "select rowhouse.index_collection('loaded', 16, 64, '32MB'), current_setting('maintenance_work_mem') as now",
    )
    expect(memory.now).toBe((await rows('show maintenance_work_mem'))[0].maintenance_work_mem)
  })

  test('the search settings can be changed', async () => {
    expect(await collections().configure('loaded', { exactLimit: 5 })).toMatchObject({ exactLimit: 5, efSearch: 120 })
    expect(await collections().configure('loaded', { efSearch: 80 })).toMatchObject({ exactLimit: 5, efSearch: 80 })
    await expectError(
      collections().configure('loaded', { efSearch: 1200 }),
      'invalid_collection',
      'efSearch is more than 1000',
    )
    await expectError(collections().configure('nowhere', {}), 'collection_not_found')
  })

  test('collections are listed by name', async () => {
    const listed = await collections().list()
    expect(listed.map(({ name }) => name)).toEqual(['loaded', 'papers'])
    expect(listed[0]!.createdAt).toBeInstanceOf(Date)
  })

  test('dropping removes the table, its partitions and its entries', async () => {
    await collections().drop('loaded')
    expect(await rows("select from pg_class where relname like '%loaded%'")).toEqual([])
    expect(
      await rows(
        'select from rowhouse.protected_tables p where not exists (select from pg_class c where c.oid = p.relation)',
      ),
    ).toEqual([])
    await expectError(collections().drop('loaded'), 'collection_not_found', 'collection "loaded" does not exist')
    await expectError(fixture.rowhouse.tenant(ACME).documents('loaded').count(), 'collection_not_found')
  })
})
