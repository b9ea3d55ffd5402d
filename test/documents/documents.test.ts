import { CamelCasePlugin, sql } from 'kysely'
import { beforeAll, describe, expect, test } from 'vitest'
import { createRowhouse } from '../../src/index.ts'
import { useDatabase } from '../setup/database.ts'
import { ACME, expectError, useRowhouse } from './fixture.ts'

const database = useDatabase({ needs: ['pgvector'] })
const fixture = useRowhouse(database)

beforeAll(async () => {
  await fixture.rowhouse.collections.create('documents', { dimensions: 3 })
})

const acme = () => fixture.rowhouse.tenant(ACME).documents()
const east = [1, 0, 0]
const north = [0, 1, 0]
const up = [0, 0, 1]

describe('write and read', () => {
  test('documents come back as they were written', async () => {
    const before = Date.now() - 60_000
    const ids = await acme().upsert([
      { id: 'one', content: 'Ünïcödé 🐎', embedding: east, metadata: { page: 1, tags: ['a'], nested: { deep: true } } },
      { content: 'without an id', embedding: new Float32Array(north) },
    ])
    expect(ids[0]).toBe('one')
    expect(ids[1]).toMatch(/^[0-9a-f-]{36}$/)
    const one = await acme().get('one')
    expect(one).toMatchObject({
      tenantId: ACME,
      id: 'one',
      content: 'Ünïcödé 🐎',
      metadata: { page: 1, tags: ['a'], nested: { deep: true } },
    })
    expect(one!.createdAt.getTime()).toBeGreaterThan(before)
    expect(await acme().get(ids)).toMatchObject([{ id: 'one' }, { id: ids[1], metadata: {} }])
    expect(await acme().get(['nowhere', ids[1]!, 'one', 'one'])).toMatchObject([{ id: ids[1] }, { id: 'one' }])
    expect(await acme().get('nowhere')).toBeUndefined()
    expect(await acme().get([])).toEqual([])
    expect(await acme().delete(ids)).toBe(2)
  })

  test('an upsert replaces all of a document but its creation', async () => {
    await acme().upsert([{ id: 'again', content: 'old', embedding: east, metadata: { version: 1 } }])
    const { createdAt, updatedAt } = (await acme().get('again'))!
    await acme().upsert([{ id: 'again', content: 'new', embedding: north }])
    const replaced = (await acme().get('again'))!
    expect(replaced).toMatchObject({ content: 'new', metadata: {}, createdAt })
    expect(replaced.updatedAt.getTime()).toBeGreaterThanOrEqual(updatedAt.getTime())
    const [hit] = await acme().search({ embedding: north })
    expect(hit).toMatchObject({ id: 'again', distance: 0 })
    expect(await acme().count()).toBe(1)
    expect(await acme().delete('again')).toBe(1)
    expect(await acme().delete('again')).toBe(0)
    expect(await acme().delete([])).toBe(0)
  })

  test('a search ranks, limits, filters and cuts off', async () => {
    await acme().upsert([
      { id: 'east', content: 'east', embedding: east, metadata: { axis: 'x', kinds: ['flat', 'sea'] } },
      { id: 'north', content: 'north', embedding: north, metadata: { axis: 'y', kinds: ['flat'] } },
      { id: 'up', content: 'up', embedding: up, metadata: { axis: 'z' } },
    ])
    const documents = acme()
    const hits = await documents.search({ embedding: [1, 0.5, 0] })
    expect(hits.map(({ id, strategy }) => [id, strategy])).toEqual([
      ['east', 'exact'],
      ['north', 'exact'],
      ['up', 'exact'],
    ])
    expect(hits[0]!.score).toBeCloseTo(1 - hits[0]!.distance!)
    expect(hits[0]!.distance).toBeCloseTo(1 - 1 / Math.sqrt(1.25))
    const ids = async (query: object) =>
      (await documents.search({ embedding: [1, 0.5, 0], ...query })).map(({ id }) => id)
    expect(await ids({ limit: 1 })).toEqual(['east'])
    expect(await ids({ filter: { axis: 'z' } })).toEqual(['up'])
    expect(await ids({ filter: { kinds: ['flat'] } })).toEqual(['east', 'north'])
    expect(await ids({ filter: {} })).toEqual(['east', 'north', 'up'])
    expect(await ids({ minScore: 0.3 })).toEqual(['east', 'north'])
    expect(await ids({ minScore: 2 })).toEqual([])
    expect(await documents.count()).toBe(3)
    expect(await documents.count({ filter: { kinds: ['flat'] } })).toBe(2)
    await documents.delete(['east', 'north', 'up'])
    expect(await documents.search({ embedding: east })).toEqual([])
  })

  test('rows written by SQL with the column defaults are documents too', async () => {
    await fixture.rowhouse.withTenant(ACME, async (db, tenant) => {
      await sql`insert into rowhouse.documents_documents (content, embedding) values ('by hand', '[1,2,3]')`.execute(db)
      expect(await tenant.documents().search({ embedding: east })).toMatchObject([{ content: 'by hand', metadata: {} }])
      await sql`delete from rowhouse.documents_documents where tenant_id = ${ACME}`.execute(db)
    })
  })
})

describe('transactions', () => {
  test('calls inside withTenant are rolled back with it', async () => {
    await expect(
      fixture.rowhouse.withTenant(ACME, async (_db, tenant) => {
        await tenant.documents().upsert([{ id: 'gone', content: 'gone', embedding: east }])
        expect(await tenant.documents().count()).toBe(1)
        throw new Error('changed my mind')
      }),
    ).rejects.toThrow('changed my mind')
    expect(await acme().count()).toBe(0)
  })

  test('a refused write inside a nested transaction leaves the outer one usable', async () => {
    await fixture.rowhouse.withTenant(ACME, async (_db, tenant) => {
      await tenant.documents().upsert([{ id: 'kept', content: 'kept', embedding: east }])
      const nested = tenant.runContext((_nested, inner) =>
        inner.documents().upsert([{ id: 'refused', content: 'refused', embedding: [1, 2] }]),
      )
      await expectError(nested, 'invalid_embedding', 'expected 3 dimensions, not 2')
    })
    expect(await acme().get(['kept', 'refused'])).toMatchObject([{ id: 'kept' }])
    await acme().delete('kept')
  })

  test('settings of the search do not outlive it', async () => {
    await acme().upsert([{ id: 'x', content: 'x', embedding: east }])
    await fixture.rowhouse.withTenant(ACME, async (db, tenant) => {
      const settings = async () => {
        const names = [
          'hnsw.ef_search',
          'hnsw.iterative_scan',
          'hnsw.max_scan_tuples',
          'enable_indexscan',
          'enable_sort',
          'enable_seqscan',
          'enable_bitmapscan',
          'jit',
        ]
        const { rows } = await sql<{ name: string; value: string }>`
          select name, current_setting(name, true) as value from unnest(${names}::text[]) name`.execute(db)
        return Object.fromEntries(rows.map(({ name, value }) => [name, value]))
      }
      await tenant.documents().search({ embedding: east, strategy: 'index' })
      expect(await settings()).toMatchObject({ 'hnsw.ef_search': '40', enable_sort: 'on', enable_seqscan: 'on' })
      await sql`set local hnsw.ef_search = 77`.execute(db)
      await sql`set local enable_sort = off`.execute(db)
      const before = await settings()
      await tenant.documents().search({ embedding: east, strategy: 'index' })
      await tenant.documents().search({ embedding: east, strategy: 'exact' })
      expect(await settings()).toEqual(before)
    })
    await acme().delete('x')
  })

  test('read-only transactions search', async () => {
    const readOnly = fixture.rowhouse.tenant(ACME, { readOnly: true }).documents()
    expect(await readOnly.search({ embedding: east, strategy: 'index' })).toEqual([])
    expect(await readOnly.search({ embedding: east, strategy: 'exact' })).toEqual([])
    await expect(readOnly.upsert([{ content: 'x', embedding: east }])).rejects.toThrow('read-only transaction')
  })
})

describe('embed', () => {
  const embed = async (texts: readonly string[]) =>
    texts.map((text) => [text.includes('east') ? 1 : 0.01, 1, text.length])

  test('texts are embedded on the way in and in searches', async () => {
    const documents = fixture.rowhouse.tenant(ACME).documents('documents', { embed })
    await documents.upsert([
      { id: 'a', content: 'to the east' },
      { id: 'b', content: 'given', embedding: [-1, 0, 0] },
      { id: 'c', content: 'elsewhere' },
    ])
    expect((await documents.search({ text: 'to the east', limit: 1 }))[0]).toMatchObject({ id: 'a', score: 1 })
    expect((await documents.search({ embedding: [-1, 0, 0], limit: 1 }))[0]).toMatchObject({ id: 'b' })
    await documents.delete(['a', 'b', 'c'])
  })

  test('an embed function must return one embedding for each text', async () => {
    const documents = (made: unknown) =>
      fixture.rowhouse.tenant(ACME).documents('documents', { embed: async () => made as number[][] })
    await expectError(
      documents([[1, 2, 3]]).upsert([{ content: 'a' }, { content: 'b' }]),
      'invalid_embedding',
      'returned 1 embeddings for 2',
    )
    await expectError(documents(undefined).search({ text: 'a' }), 'invalid_embedding', 'returned no embeddings')
    await expectError(documents([null]).search({ text: 'a' }), 'invalid_embedding', 'is no array of numbers')
  })

  test('without it, text is not enough', async () => {
    await expectError(
      acme().upsert([{ content: 'a' } as never]),
      'invalid_embedding',
      'Document 1 of 1 has no embedding',
    )
    await expectError(
      acme().search({ text: 'a' } as never),
      'invalid_argument',
      'needs documents\\(collection, { embed }\\)',
    )
  })
})

test('plugins of the application do not change what the modules read', async () => {
  const pool = database.pool('app', { max: 1 })
  const rowhouse = createRowhouse({ pool, plugins: [new CamelCasePlugin()] })
  const documents = rowhouse.tenant(ACME).documents()
  await documents.upsert([{ id: 'camel', content: 'x', embedding: east, metadata: { snake_case: 1 } }])
  expect(await documents.get('camel')).toMatchObject({ id: 'camel', metadata: { snake_case: 1 } })
  await rowhouse.withTenant(ACME, async (_db, tenant) => {
    expect(await tenant.documents().search({ embedding: east })).toMatchObject([
      { id: 'camel', metadata: { snake_case: 1 } },
    ])
  })
  await documents.delete('camel')
  await rowhouse.close()
})
