// Two tenants write documents under the same ids into the same collections. Whatever one of them asks for, in whatever
// way, nothing of the other comes back or changes; each probe is shown to leak once the policies are gone.
import type pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createRowhouse, type Rowhouse, TenantMismatchError } from '../../src/index.ts'
import { expectClosed } from '../isolation/support/expect-closed.ts'
import { inTenant, rowsInTenant } from '../isolation/support/in-tenant.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { ACME, expectError, GLOBEX, useRowhouse } from './fixture.ts'

const database = useDatabase({ needs: ['pgvector'] })
const fixture = useRowhouse(database)
let owner: pg.Client
let unchecked: Rowhouse

beforeAll(async () => {
  owner = await database.connect('owner')
  await fixture.rowhouse.collections.create('documents', { dimensions: 3, exactLimit: 100 })
  for (const tenantId of [ACME, GLOBEX]) await fill(tenantId)
  // Asks no start-up check to refuse, so that the last wall can be seen by itself.
  unchecked = createRowhouse({ pool: database.pool('app', { max: 1 }) })
})
afterAll(() => unchecked?.close())

const fill = (tenantId: string) =>
  fixture.rowhouse
    .tenant(tenantId)
    .documents()
    .upsert([
      { id: 'shared-id', content: `canary:${tenantId}:shared`, embedding: [1, 0, 0], metadata: { secret: tenantId } },
      { id: `only-${tenantId}`, content: `canary:${tenantId}:only`, embedding: [0, 1, 0] },
    ])

const TABLE = 'rowhouse.documents_documents'

/** Opens every relation of the table, as its owner, or puts the protection back. */
const protection = (state: 'disable' | 'enable') => async () => {
  await owner.query('begin; set local role rowhouse_owner')
  const { rows } = await owner.query(
    `select relid::regclass::text as name from unnest(array['${TABLE}', 'rowhouse.parents_documents']) t, pg_partition_tree(t)`,
  )
  for (const { name } of rows) await owner.query(`alter table ${name} ${state} row level security`)
  await owner.query('commit')
}

const closed = (probe: () => Promise<readonly unknown[]>) =>
  expectClosed({ probe, removeProtection: protection('disable'), restoreProtection: protection('enable') })

/** Rows of a statement that acme sends, of which none may be globex's. */
const foreignRows = async (sql: string) =>
  (await rowsInTenant(fixture.app, ACME, sql)).filter((row) => JSON.stringify(row).includes(GLOBEX))

describe('SQL that forgets the tenant', () => {
  test.for<[string, string]>([
    ['select', `select * from ${TABLE}`],
    ['select by id', `select * from ${TABLE} where document_id = 'only-globex'`],
    ['nearest neighbours, exactly', `select * from ${TABLE} order by (embedding <=> '[1,0,0]') + 0 limit 10`],
    ['update', `update ${TABLE} set content = content returning *`],
    ['update by id', `update ${TABLE} set content = 'x' where document_id = 'only-globex' returning *`],
    ['delete', `delete from ${TABLE} returning *`],
    ['a filter on metadata', `select * from ${TABLE} where metadata @> '{"secret": "globex"}'`],
    ['count', `select 'globex' from ${TABLE} having count(*) > 2`],
  ])('%s', async ([, sql]) => {
    await closed(() => foreignRows(sql))
  })

  test('nearest neighbours by the vector index', async () => {
    await closed(() =>
      inTenant(fixture.app, ACME, async () => {
        await fixture.app.query(
          'set local enable_sort = off; set local enable_seqscan = off; set local hnsw.iterative_scan = relaxed_order',
        )
        const { rows } = await fixture.app.query(`select * from ${TABLE} order by embedding <=> '[1,0,0]' limit 10`)
        return rows.filter((row) => row.tenant_id !== ACME)
      }),
    )
  })

  test('insert for another tenant', async () => {
    const insert = `insert into ${TABLE} (tenant_id, document_id, content, embedding) values ('${GLOBEX}', 'planted', 'x', '[1,0,0]') returning 'globex'`
    await closed(() => foreignRows(insert).catch((error) => (error.code === '42501' ? [] : Promise.reject(error))))
  })
})

describe('a neighbour with a partition of its own', () => {
  beforeAll(() => fixture.rowhouse.tenants.promote(GLOBEX))
  afterAll(() => fixture.rowhouse.tenants.demote(GLOBEX))

  test.for<[string, string]>([
    ['select', `select * from ${TABLE}`],
    ['nearest neighbours, exactly', `select * from ${TABLE} order by (embedding <=> '[1,0,0]') + 0 limit 10`],
    ['nearest neighbours', `select * from ${TABLE} order by embedding <=> '[1,0,0]' limit 10`],
    ['update', `update ${TABLE} set content = content returning *`],
    ['delete', `delete from ${TABLE} returning *`],
  ])('%s', async ([, sql]) => {
    await closed(() => foreignRows(sql))
  })

  test('the functions find nothing of it either', async () => {
    for (const strategy of ['exact', 'index'] as const) {
      const hits = await fixture.rowhouse
        .tenant(ACME)
        .documents()
        .search({ embedding: [1, 0, 0], strategy })
      expect(hits.map(({ tenantId, content }) => [tenantId, content])).toEqual([
        [ACME, 'canary:acme:shared'],
        [ACME, 'canary:acme:only'],
      ])
    }
  })

  test('its partition can not be named', needs('realRoles'), async () => {
    const { rows } = await owner.query(
      `select relid::regclass::text as name from pg_partition_tree('${TABLE}') where relid <> '${TABLE}'::regclass`,
    )
    expect(rows).toHaveLength(18)
    for (const { name } of rows) {
      await expect(rowsInTenant(fixture.app, GLOBEX, `select from ${name}`)).rejects.toMatchObject({ code: '42501' })
    }
  })
})

describe('the functions', () => {
  test('say the tenant in every statement, so they need no policy', async () => {
    const parents = fixture.rowhouse.tenant(GLOBEX).documents().parents
    await parents.upsert({ id: 'parent-globex', title: 'globex', parts: [{ content: 'globex', embedding: [1, 1, 1] }] })
    await protection('disable')()
    try {
      for (const sql of [
        "select * from rowhouse.search_documents('documents', '[1,0,0]')",
        "select * from rowhouse.search_documents('documents', '[1,0,0]', p_strategy => 'index')",
        "select * from rowhouse.get_documents('documents', array['shared-id', 'only-globex'])",
        `select 'globex' where rowhouse.count_documents('documents') <> 2`,
        `select 'globex' where rowhouse.delete_documents('documents', array['only-globex']) <> 0`,
        `select 'globex' where rowhouse.delete_documents_where('documents', '{"secret": "globex"}') <> 0`,
        `select 'globex' where rowhouse.update_document('documents', 'only-globex', '{"title": "x"}')`,
        "select * from rowhouse.search_documents('documents', p_text => 'canary globex shared', p_match => 'any')",
        "select * from rowhouse.search_documents('documents', '[1,0,0]', p_text => 'globex')",
        "select * from rowhouse.search_documents('documents', '[1,0,0]', p_diversity => 0.5)",
        "select * from rowhouse.get_parents('documents', array['parent-globex'])",
        `select 'globex' where rowhouse.update_parent('documents', 'parent-globex', '{"title": "x"}')`,
        `select 'globex' where rowhouse.delete_parents('documents', array['parent-globex']) <> 0`,
      ]) {
        expect(await foreignRows(sql), sql).toEqual([])
      }
    } finally {
      await protection('enable')()
    }
    expect((await parents.get('parent-globex'))!.title).toBe('globex')
    await parents.delete('parent-globex')
  })

  test('without a tenant they refuse', async () => {
    for (const call of [
      "upsert_documents('documents', null, array['x'], array['[1,2,3]'])",
      "search_documents('documents', '[1,2,3]')",
      "get_documents('documents', array['x'])",
      "delete_documents('documents', array['x'])",
      "count_documents('documents')",
      "delete_documents_where('documents', '{\"a\": 1}')",
      "update_document('documents', 'x', '{\"title\": \"x\"}')",
      "search_documents('documents', p_text => 'x')",
      "upsert_parent('documents', 'x', array['x'], array['[1,2,3]'])",
      "get_parents('documents', array['x'])",
      "update_parent('documents', 'x', '{\"title\": \"x\"}')",
      "delete_parents('documents', array['x'])",
    ]) {
      await expect(rowsInTenant(fixture.app, null, `select rowhouse.${call}`)).rejects.toMatchObject({ code: 'RH001' })
    }
  })
})

describe('the client', () => {
  const acme = () => fixture.rowhouse.tenant(ACME).documents()

  test('reads and finds only documents of its tenant', async () => {
    for (const strategy of ['exact', 'index'] as const) {
      const hits = await acme().search({ embedding: [1, 0, 0], strategy })
      expect(hits.map(({ tenantId, content }) => [tenantId, content])).toEqual([
        [ACME, 'canary:acme:shared'],
        [ACME, 'canary:acme:only'],
      ])
    }
    expect(await acme().search({ embedding: [1, 0, 0], filter: { secret: GLOBEX } })).toEqual([])
    expect(await acme().get(['shared-id', 'only-globex'])).toMatchObject([
      { tenantId: ACME, content: 'canary:acme:shared' },
    ])
    expect(await acme().get('only-globex')).toBeUndefined()
    expect(await acme().count()).toBe(2)
  })

  test('the id of another tenant is free to use, and its document untouched by upsert and delete', async () => {
    expect(await acme().upsert([{ id: 'only-globex', content: 'mine', embedding: [0, 0, 1] }])).toEqual(['only-globex'])
    const globex = fixture.rowhouse.tenant(GLOBEX).documents()
    expect(await globex.get('only-globex')).toMatchObject({ content: 'canary:globex:only' })
    expect(await acme().delete(['only-globex', 'shared-id'])).toBe(2)
    expect(await globex.get(['only-globex', 'shared-id'])).toHaveLength(2)
    await fill(ACME)
  })

  test('a suspended tenant is refused by every call', async () => {
    await fixture.rowhouse.tenants.suspend(ACME)
    for (const call of [
      () => acme().upsert([{ content: 'x', embedding: [1, 2, 3] }]),
      () => acme().search({ embedding: [1, 2, 3] }),
      () => acme().get('x'),
      () => acme().delete('x'),
      () => acme().count(),
      () => acme().search({ mode: 'text', text: 'x' }),
      () => acme().searchPage({ embedding: [1, 2, 3] }),
      () => acme().update('x', { title: 'x' }),
      () => acme().deleteWhere({ a: 1 }),
      () => acme().parents.upsert({ parts: [{ content: 'x', embedding: [1, 2, 3] }] }),
      () => acme().parents.get('x'),
      () => acme().parents.update('x', { title: 'x' }),
      () => acme().parents.delete('x'),
    ]) {
      await expectError(call(), 'tenant_suspended')
    }
    await fixture.rowhouse.tenants.resume(ACME)
  })

  test('looks at the tenant of every row again, should the database be lying', async () => {
    await unchecked.tenant(ACME).documents().count()
    // Functions that were replaced by careless ones, over a table without policies.
    const definitions = await owner.query(
      "select proname as name, pg_get_functiondef(oid) as sql from pg_proc where pronamespace = 'rowhouse'::regnamespace and proname in ('get_documents', 'search_documents')",
    )
    expect(definitions.rows).toHaveLength(2)
    const row = 'd.tenant_id, d.document_id, d.content, d.metadata, d.title, d.source, d.parent_id, d.place'
    const careless = {
      get_documents: `select ${row}, d.created_at, d.updated_at from ${TABLE} d`,
      search_documents: `select ${row}, 0::float8, 0::float8, 'exact', 1, null::int, null::float8, null::text from ${TABLE} d`,
    }
    await protection('disable')()
    await owner.query('set role rowhouse_owner')
    for (const { name, sql } of definitions.rows) {
      const body = careless[name as keyof typeof careless]
      await owner.query(sql.replace(/AS \$function\$[\s\S]*/, () => `as $$ begin return query ${body}; end $$`))
    }
    await owner.query('reset role')
    try {
      const documents = unchecked.tenant(ACME).documents()
      for (const call of [
        () => documents.get(['shared-id', 'only-globex']),
        () => documents.search({ embedding: [1, 0, 0] }),
        // Recorded although its transaction is rolled back.
        () => unchecked.withTenant(ACME, (_db, tenant) => tenant.documents().search({ embedding: [1, 0, 0] })),
      ]) {
        const error = await expectError(call(), 'tenant_mismatch')
        expect(error).toBeInstanceOf(TenantMismatchError)
        expect(`${error.message} ${error.hint}`).not.toContain(GLOBEX)
      }
    } finally {
      await owner.query('set role rowhouse_owner')
      for (const { sql } of definitions.rows) await owner.query(sql)
      await owner.query('reset role')
      await protection('enable')()
    }
    expect(await acme().search({ embedding: [1, 0, 0] })).toHaveLength(2)
    await unchecked.auditLog.flush()
    const trail = await unchecked.tenant(ACME).audit.query({ action: 'documents.tenant_mismatch' })
    expect(trail.map(({ error, detail }) => [error, detail])).toEqual(
      Array(3).fill(['the database answered with a row of another tenant', { collection: 'documents' }]),
    )
  })
})

test('erasing a tenant takes its documents from every collection, and no other', async () => {
  await fixture.rowhouse.collections.create('second', { dimensions: 3 })
  for (const tenantId of [ACME, GLOBEX]) {
    await fixture.rowhouse
      .tenant(tenantId)
      .documents('second')
      .upsert([{ content: tenantId, embedding: [1, 2, 3] }])
  }
  const receipt = await fixture.rowhouse.tenants.erase(GLOBEX)
  expect(receipt).toMatchObject({ tables: { 'rowhouse.documents_documents': 2, 'rowhouse.documents_second': 1 } })
  expect(await fixture.rowhouse.tenant(ACME).documents().count()).toBe(2)
  expect(await fixture.rowhouse.tenant(ACME).documents('second').count()).toBe(1)
})
