// Full-text search: what matches, in which order, and by which path Postgres finds it.
import { beforeAll, describe, expect, test } from 'vitest'
import { inTenant } from '../isolation/support/in-tenant.ts'
import { useDatabase } from '../setup/database.ts'
import { ACME, expectError, GLOBEX, useRowhouse } from './fixture.ts'

const database = useDatabase({ needs: ['pgvector'] })
const fixture = useRowhouse(database)
const documents = (collection = 'texts', tenantId = ACME) => fixture.rowhouse.tenant(tenantId).documents(collection)

const TEXTS = [
  { id: 'refund', title: 'Refunds', content: 'Refunds take five working days.', metadata: { page: 1 } },
  { id: 'damage', content: 'Damaged goods are refunded at once.', metadata: { page: 2 } },
  { id: 'leave', content: "The employee's parental leave takes two months.", metadata: { page: 3 } },
  { id: 'days', content: 'Five days a week, working hours are flexible.', source: 'hours.md' },
]
const FILLER = Array.from({ length: 500 }, (_, index) => ({
  id: `f${index}`,
  content: `filler number${index} common`,
}))
const embedding = [1, 0]
const embedded = <T extends object>(list: readonly T[]) => list.map((document) => ({ ...document, embedding }))

beforeAll(async () => {
  await fixture.rowhouse.collections.create('texts', { dimensions: 2 })
  await fixture.rowhouse.collections.create('large', { dimensions: 2 })
  for (const tenantId of [ACME, GLOBEX]) {
    await documents('texts', tenantId).upsert(embedded(TEXTS))
    await documents('large', tenantId).upsert(embedded([...TEXTS, ...FILLER]))
  }
})

describe.for([['texts', 'scan'] as const, ['large', 'index'] as const])('%s, by %s', ([collection, strategy]) => {
  const find = async (text: string, query: object = {}) => {
    const hits = await documents(collection).search({ mode: 'text', text, ...query })
    for (const hit of hits) {
      expect(hit).toMatchObject({ tenantId: ACME, textStrategy: strategy, strategy: null, distance: null })
      expect(hit.textScore).toBe(hit.score)
    }
    expect(hits.map(({ textRank }) => textRank)).toEqual(hits.map((_, index) => index + 1))
    return hits.map(({ id }) => id)
  }

  test.for<[string, object, string[]]>([
    ['refunds', {}, ['refund', 'damage']],
    ['refunded days', {}, ['refund']],
    ['"five days"', {}, ['days']],
    ['days -refunds', {}, ['days']],
    ['leave or goods', {}, ['damage', 'leave']],
    ['leave goods', { match: 'any' }, ['damage', 'leave']],
    ["employee's", { match: 'any' }, ['leave']],
    ['"', {}, []],
    ["it's & | ! ( \\", {}, []],
    ['the', {}, []],
    ['the', { match: 'any' }, []],
    ['unheard', {}, []],
    ['days', { filter: { $source: 'hours.md' } }, ['days']],
    ['refund', { filter: { page: { $gte: 2 } } }, ['damage']],
    ['refund', { limit: 1 }, ['refund']],
    ['refund', { minScore: 0.1 }, ['refund']],
    ['refund', { minScore: 2 }, []],
    ['tenant acme', {}, []],
  ])('%s %j', async ([text, query, expected]) => {
    const found = await find(text, query)
    expect(found.toSorted()).toEqual(expected.toSorted())
    if (text === 'refunds') expect(found[0], 'the title counts more').toBe('refund')
  })

  test('a document that changed is found by its new words alone', async () => {
    await documents(collection).upsert(embedded([{ id: 'moving', content: 'caterpillar' }]))
    expect(await find('caterpillar')).toEqual(['moving'])
    await documents(collection).upsert(embedded([{ id: 'moving', content: 'butterfly' }]))
    expect([await find('caterpillar'), await find('butterflies')]).toEqual([[], ['moving']])
    await documents(collection).update('moving', { title: 'Chrysalis' })
    expect(await find('chrysalis')).toEqual(['moving'])
    await documents(collection).delete('moving')
    expect(await find('butterfly')).toEqual([])
  })
})

describe('the path', () => {
  /** Scans of the indexes over words during a search. */
  const countScans = async () => {
    const { rows } = await fixture.app.query(
      `select sum(pg_stat_get_xact_numscans(i.indexrelid))::int as scans
        from pg_partition_tree('rowhouse.documents_large') t
        join pg_index i on i.indrelid = t.relid join pg_class c on c.oid = i.indexrelid join pg_am a on a.oid = c.relam
        where t.isleaf and a.amname = 'gin'`,
    )
    return rows[0].scans as number
  }
  const scansOf = (sql: string) =>
    inTenant(fixture.app, ACME, async () => {
      const before = await countScans()
      await fixture.app.query(sql)
      return (await countScans()) - before
    })

  test('a large tenant is searched by the index of one partition, under the policies', async () => {
    const search = `select * from rowhouse.search_documents('large', p_text => 'refund five or leave')`
    const owner = await database.connect('owner')
    await owner.query('set role rowhouse_owner; analyze rowhouse.documents_large; reset role')
    expect(await scansOf(search)).toBe(1)
    expect(await scansOf(`set local plan_cache_mode = force_generic_plan; ${search}`)).toBe(1)
  })

  test('which the application could not use by itself', async () => {
    expect(
      await scansOf(`set local enable_seqscan = off;
        select from rowhouse.documents_large where tenant_id = 'acme' and words @@ 'refund'::tsquery`),
    ).toBe(0)
  })

  test('a promoted tenant is searched by its own index', async () => {
    await fixture.rowhouse.tenants.promote(GLOBEX)
    const hits = await documents('large', GLOBEX).search({ mode: 'text', text: 'refund' })
    expect(hits.map(({ id, tenantId, textStrategy }) => [id, tenantId, textStrategy])).toEqual([
      ['refund', GLOBEX, 'index'],
      ['damage', GLOBEX, 'index'],
    ])
    await fixture.rowhouse.tenants.demote(GLOBEX)
    expect(await documents('large', GLOBEX).search({ mode: 'text', text: 'refund' })).toHaveLength(2)
  })

  test('a collection without its index is searched all the same', async () => {
    await fixture.rowhouse.collections.create('bare', { dimensions: 2, index: false })
    await documents('bare').upsert(embedded([...TEXTS, ...FILLER]))
    const search = () => documents('bare').search({ mode: 'text', text: 'refund' })
    expect((await search()).map(({ textStrategy }) => textStrategy)).toEqual(['scan', 'scan'])
    expect(await fixture.rowhouse.collections.index('bare')).toBe(true)
    expect((await search()).map(({ textStrategy }) => textStrategy)).toEqual(['index', 'index'])
    expect(await fixture.rowhouse.collections.index('bare')).toBe(false)
  })

  test('settings of the caller stay what they were', async () => {
    await inTenant(fixture.app, ACME, async () => {
      await fixture.app.query(`set local rowhouse.search = 'mine'`)
      await fixture.app.query(`select * from rowhouse.search_documents('large', p_text => 'refund')`)
      const { rows } = await fixture.app.query(`select current_setting('rowhouse.search') as search`)
      expect(rows).toEqual([{ search: 'mine' }])
    })
  })
})

describe('languages', () => {
  test('words are those of the language of the collection', async () => {
    await fixture.rowhouse.collections.create('deutsch', { dimensions: 2, language: 'german' })
    await fixture.rowhouse.collections.create('exact', { dimensions: 2, language: 'simple' })
    for (const name of ['deutsch', 'exact']) {
      await documents(name).upsert(embedded([{ id: 'x', content: 'Die Häuser der Stadt' }]))
    }
    const find = async (name: string, text: string) => (await documents(name).search({ mode: 'text', text })).length
    expect([await find('deutsch', 'haus'), await find('exact', 'haus')]).toEqual([1, 0])
    expect([await find('deutsch', 'die'), await find('exact', 'die')]).toEqual([0, 1])
    expect(await fixture.rowhouse.collections.create('deutsch', { dimensions: 2 })).toMatchObject({
      language: 'german',
    })
  })

  test.for<[string, string]>([
    ['klingon', 'there is no text search configuration "klingon"'],
    ["x'; drop", 'is not the name'],
    ['', 'is not the name'],
  ])('%s is none', async ([language, message]) => {
    await expectError(
      fixture.rowhouse.collections.create('other', { dimensions: 2, language }),
      'invalid_collection',
      message,
    )
  })

  test('none leaves full-text search out', async () => {
    await fixture.rowhouse.collections.create('mute', { dimensions: 2, language: 'none' })
    await documents('mute').upsert(embedded(TEXTS))
    await expectError(documents('mute').search({ mode: 'text', text: 'x' }), 'invalid_collection', 'without full-text')
    expect(await documents('mute').search({ embedding })).toHaveLength(4)
    await expectError(
      fixture.rowhouse.collections.create('mute', { dimensions: 2, language: 'english' }),
      'invalid_collection',
      'with the language none',
    )
  })

  test('more words than an index holds are refused, and nothing is written', async () => {
    const content = Array.from({ length: 150_000 }, (_, index) => `w${index.toString(36)}`).join(' ')
    await expectError(documents().upsert(embedded([{ id: 'long', content }])), 'invalid_document', 'tsvector')
    expect(await documents().get('long')).toBeUndefined()
  })
})
