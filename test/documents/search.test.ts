import { beforeAll, describe, expect, test } from 'vitest'
import type { ElementType, Metric, SearchHit } from '../../src/index.ts'
import { inTenant } from '../isolation/support/in-tenant.ts'
import { useDatabase } from '../setup/database.ts'
import { ACME, distance, GLOBEX, nearest, provision, randomVectors, useRowhouse } from './fixture.ts'

const database = useDatabase({ needs: ['pgvector'] })
const fixture = useRowhouse(database)
const tenant = (tenantId: string) => fixture.rowhouse.tenant(tenantId)

const DIMENSIONS = 16
const toDocuments = (vectors: number[][]) =>
  vectors.map((embedding, index) => ({
    id: `d${index}`,
    content: `document ${index}`,
    embedding,
    metadata: { parity: index % 2, number: index },
  }))

const recall = (hits: readonly SearchHit[], expected: readonly number[]) =>
  hits.filter(({ id }) => expected.includes(Number(id.slice(1)))).length / expected.length

describe.for<[Metric, ElementType]>([
  ['cosine', 'vector'],
  ['cosine', 'halfvec'],
  ['l2', 'vector'],
  ['l2', 'halfvec'],
  ['inner_product', 'vector'],
  ['inner_product', 'halfvec'],
])('%s over %s', ([metric, elementType]) => {
  const name = `${metric}_${elementType}`
  const vectors = randomVectors(1, 300, DIMENSIONS)
  const queries = randomVectors(2, 10, DIMENSIONS)

  beforeAll(async () => {
    await fixture.rowhouse.collections.create(name, { dimensions: DIMENSIONS, metric, elementType })
    await tenant(ACME).documents(name).upsert(toDocuments(vectors))
    // A neighbour with the same positions, so that a search that looked beyond its tenant would show.
    await tenant(GLOBEX).documents(name).upsert(toDocuments(vectors))
  })

  test('the exact search finds the true neighbours, in order', async () => {
    for (const query of queries) {
      const hits = await tenant(ACME).documents(name).search({ embedding: query, limit: 10 })
      expect(hits.every(({ strategy, tenantId }) => strategy === 'exact' && tenantId === ACME)).toBe(true)
      // A halfvec has about three decimal digits, which may swap neighbours that are equally far.
      if (elementType === 'vector') {
        expect(hits.map(({ id }) => Number(id.slice(1)))).toEqual(nearest(metric, vectors, query, 10))
      }
      for (const hit of hits) {
        const expected = distance(metric, vectors[Number(hit.id.slice(1))]!, query)
        expect(hit.distance).toBeCloseTo(expected, elementType === 'vector' ? 4 : 2)
        const score = { cosine: 1 - expected, l2: 1 / (1 + expected), inner_product: -expected }[metric]
        expect(hit.score).toBeCloseTo(score, elementType === 'vector' ? 4 : 2)
      }
      expect(hits.map((hit) => hit.distance!)).toEqual(hits.map((hit) => hit.distance!).toSorted((a, b) => a - b))
    }
  })

  test('the index finds nearly all of them, nearest first', async () => {
    const found: number[] = []
    for (const query of queries) {
      const hits = await tenant(ACME).documents(name).search({ embedding: query, limit: 10, strategy: 'index' })
      expect(hits).toHaveLength(10)
      expect(hits.every(({ strategy, tenantId }) => strategy === 'shared_index' && tenantId === ACME)).toBe(true)
      expect(hits.map((hit) => hit.distance!)).toEqual(hits.map((hit) => hit.distance!).toSorted((a, b) => a - b))
      found.push(recall(hits, nearest(metric, vectors, query, 10)))
    }
    expect(found.reduce((sum, value) => sum + value) / found.length).toBeGreaterThanOrEqual(0.9)
  })
})

describe('the choice of the strategy', () => {
  const vectors = randomVectors(3, 400, DIMENSIONS)
  const [query] = randomVectors(4, 1, DIMENSIONS)

  beforeAll(async () => {
    await fixture.rowhouse.collections.create('chosen', { dimensions: DIMENSIONS, exactLimit: 100 })
    await tenant(ACME)
      .documents('chosen')
      .upsert(toDocuments(vectors.slice(0, 100)))
    await tenant(GLOBEX).documents('chosen').upsert(toDocuments(vectors))
  })

  /** Scans of the leaf indexes so far, of this transaction and of those that were not reported yet. */
  async function countScans(
    collection: string,
  ): Promise<{ index: string; kind: string; schema: string; scans: number }[]> {
    const { rows } = await fixture.app.query(
      `select i.indexrelid::text as index, a.amname as kind, n.nspname as schema, pg_stat_get_xact_numscans(i.indexrelid)::int as scans
        from pg_partition_tree('rowhouse.documents_${collection}') t
        join pg_index i on i.indrelid = t.relid
        join pg_class c on c.oid = i.indexrelid
        join pg_am a on a.oid = c.relam
        join pg_namespace n on n.oid = c.relnamespace
        where t.isleaf`,
    )
    return rows
  }

  /** How a search was done, and which indexes Postgres scanned for it: that is the planner's choice, not ours. */
  async function searchAndCount(tenantId: string, options = '', collection = 'chosen') {
    return inTenant(fixture.app, tenantId, async () => {
      const before = new Map((await countScans(collection)).map(({ index, scans }) => [index, scans]))
      const { rows: found } = await fixture.app.query(
        `select strategy, count(*)::int as hits from rowhouse.search_documents($1, $2, 5${options}) group by strategy`,
        [collection, `[${query}]`],
      )
      const after = (await countScans(collection))
        .map(({ index, scans, ...rest }) => ({ ...rest, scans: scans - before.get(index)! }))
        .filter(({ scans }) => scans > 0)
      return {
        found: found[0],
        hnsw: after.filter(({ kind }) => kind === 'hnsw'),
        btree: after.filter(({ kind }) => kind === 'btree'),
      }
    })
  }

  test('up to the limit: exactly, by the key of one partition, never by the vector index', async () => {
    const { found, hnsw, btree } = await searchAndCount(ACME)
    expect(found).toEqual({ strategy: 'exact', hits: 5 })
    expect(hnsw).toEqual([])
    expect(btree).toHaveLength(1)
  })

  test('beyond the limit: by the vector index of one shared partition', async () => {
    const { found, hnsw } = await searchAndCount(GLOBEX)
    expect(found).toEqual({ strategy: 'shared_index', hits: 5 })
    expect(hnsw).toEqual([{ kind: 'hnsw', schema: 'rowhouse_partitions', scans: 1 }])
  })

  test('exact and index insist', async () => {
    expect(await searchAndCount(GLOBEX, ", p_strategy => 'exact'")).toMatchObject({
      found: { strategy: 'exact' },
      hnsw: [],
    })
    const small = await searchAndCount(ACME, ", p_strategy => 'index'")
    expect(small).toMatchObject({ found: { strategy: 'shared_index' }, hnsw: [{ scans: 1 }] })
  })

  test('with statistics too, the planner has no other way', async () => {
    const owner = await database.connect('owner')
    await owner.query('set role rowhouse_owner; analyze rowhouse.documents_chosen; reset role')
    expect(await searchAndCount(ACME)).toMatchObject({ found: { strategy: 'exact' }, hnsw: [] })
    expect(await searchAndCount(GLOBEX)).toMatchObject({ found: { strategy: 'shared_index' }, hnsw: [{ scans: 1 }] })
    expect(await searchAndCount(ACME, ", p_strategy => 'index'")).toMatchObject({ hnsw: [{ scans: 1 }] })
  })

  test('a tenant without documents finds nothing', async () => {
    const operator = await database.connect('operator')
    await provision(operator, 'empty')
    for (const strategy of ['auto', 'exact', 'index'] as const) {
      expect(await tenant('empty').documents('chosen').search({ embedding: query!, strategy })).toEqual([])
    }
  })

  test('filters: few matches are all found, although the index alone would give up', async () => {
    const documents = tenant(GLOBEX).documents('chosen')
    const half = await documents.search({ embedding: query!, filter: { parity: 1 }, limit: 5 })
    expect(half).toHaveLength(5)
    expect(half.every(({ metadata, strategy }) => metadata.parity === 1 && strategy === 'shared_index')).toBe(true)
    const one = await documents.search({ embedding: query!, filter: { number: 399 }, limit: 5 })
    expect(one).toMatchObject([{ id: 'd399', strategy: 'exact' }])
    // The negative control: an index search that stops after its first candidates.
    const alone = await inTenant(fixture.app, GLOBEX, async () => {
      await fixture.app.query(
        'set local hnsw.iterative_scan = off; set local hnsw.ef_search = 5; set local enable_sort = off',
      )
      const { rows } = await fixture.app.query(
        `select document_id from rowhouse.documents_chosen where tenant_id = $1 and metadata @> '{"parity": 1}'
          order by embedding <=> $2 limit 5`,
        [GLOBEX, `[${query}]`],
      )
      return rows
    })
    expect(alone.length).toBeLessThan(5)
  })

  test('settings of the session change neither strategy nor what is found', async () => {
    const found = async (...settings: string[]) =>
      inTenant(fixture.app, GLOBEX, async () => {
        for (const setting of settings) await fixture.app.query(`set local ${setting}`)
        const { rows } = await fixture.app.query(
          `select document_id, strategy from rowhouse.search_documents('chosen', $1, 7, '{"parity": 0}')`,
          [`[${query}]`],
        )
        return rows
      })
    const usual = await found()
    expect(usual).toHaveLength(7)
    expect(usual[0].strategy).toBe('shared_index')
    for (const settings of [
      ['hnsw.iterative_scan = off', 'hnsw.ef_search = 1', 'hnsw.max_scan_tuples = 1'],
      ['enable_indexscan = off', 'enable_sort = off'],
      ['plan_cache_mode = force_generic_plan'],
      ["search_path = ''"],
    ]) {
      expect(await found(...settings), settings.join()).toEqual(usual)
    }
  })

  test('a promoted tenant is searched by an index of its own', async () => {
    await fixture.rowhouse.tenants.promote(GLOBEX)
    const { found, hnsw } = await searchAndCount(GLOBEX)
    expect(found).toEqual({ strategy: 'own_index', hits: 5 })
    expect(hnsw).toEqual([{ kind: 'hnsw', schema: expect.stringMatching(/^rowhouse_p[0-9a-f]{16}$/), scans: 1 }])
    const hits = await tenant(GLOBEX).documents('chosen').search({ embedding: query!, limit: 10 })
    expect(recall(hits, nearest('cosine', vectors, query!, 10))).toBeGreaterThanOrEqual(0.9)
    expect(
      await tenant(GLOBEX)
        .documents('chosen')
        .upsert([{ id: 'new', content: 'new', embedding: query! }]),
    ).toEqual(['new'])
    expect((await tenant(GLOBEX).documents('chosen').search({ embedding: query!, limit: 1 }))[0]).toMatchObject({
      id: 'new',
      strategy: 'own_index',
    })
    await tenant(GLOBEX).documents('chosen').delete('new')
    expect(await tenant(GLOBEX).documents('chosen').count()).toBe(400)
    await fixture.rowhouse.tenants.demote(GLOBEX)
    expect((await searchAndCount(GLOBEX)).found).toEqual({ strategy: 'shared_index', hits: 5 })
  })

  test('a promoted tenant that is small is still searched exactly', async () => {
    await fixture.rowhouse.tenants.promote(ACME)
    expect(await searchAndCount(ACME)).toMatchObject({ found: { strategy: 'exact', hits: 5 }, hnsw: [] })
    await fixture.rowhouse.tenants.demote(ACME)
  })
})
