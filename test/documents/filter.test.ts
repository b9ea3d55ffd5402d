// Filters: what each operator means, with values that are missing, null or of another type; and what is refused.
import { beforeAll, describe, expect, test } from 'vitest'
import type { Filter } from '../../src/index.ts'
import { rowsInTenant } from '../isolation/support/in-tenant.ts'
import { useDatabase } from '../setup/database.ts'
import { ACME, expectError, GLOBEX, useRowhouse } from './fixture.ts'

const database = useDatabase({ needs: ['pgvector'] })
const fixture = useRowhouse(database)
const documents = () => fixture.rowhouse.tenant(ACME).documents()

const METADATA = {
  one: { page: 1, lang: 'de', tags: ['new', 'law'], author: { name: 'Ann', born: 1980 } },
  two: { page: 2, lang: 'fr', tags: ['old'], author: { name: 'Bob' } },
  ten: { page: 10, lang: null, day: '2026-03-01' },
  text: { page: '2', day: '2026-11-30', flag: true },
  none: {},
  "it's %s \\ $1": { 'a.b': 1, '': 'x', "o'clock": '%L' },
}

beforeAll(async () => {
  await fixture.rowhouse.collections.create('documents', { dimensions: 2 })
  for (const tenantId of [ACME, GLOBEX]) {
    await fixture.rowhouse
      .tenant(tenantId)
      .documents()
      .upsert(
        Object.entries(METADATA).map(([id, metadata]) => ({
          id,
          content: id,
          embedding: [1, 1],
          metadata,
          ...(id === 'one' ? { title: 'First', source: 'a.pdf' } : {}),
        })),
      )
  }
})

const ALL = Object.keys(METADATA)
const ODD = "it's %s \\ $1"

/** Ids by a search, after count and search agreed. */
async function matching(filter: Filter): Promise<string[]> {
  const hits = await documents().search({ embedding: [1, 1], filter, limit: 100 })
  expect(await documents().count({ filter })).toBe(hits.length)
  expect(hits.every(({ tenantId }) => tenantId === ACME)).toBe(true)
  return ALL.filter((id) => hits.some((hit) => hit.id === id))
}

test.for<[Filter, string[]]>([
  [{}, ALL],
  [{ page: 2 }, ['two']],
  [{ page: 2.0, lang: 'fr' }, ['two']],
  [{ tags: ['law'] }, ['one']],
  [{ author: { name: 'Ann' } }, ['one']],
  [{ lang: null }, ['ten']],
  [{ page: { $eq: 2 } }, ['two']],
  [{ page: { $eq: '2' } }, ['text']],
  [{ lang: { $eq: null } }, ['ten']],
  [{ tags: { $eq: ['new', 'law'] } }, ['one']],
  [{ tags: { $eq: ['new'] } }, []],
  [{ page: { $ne: 2 } }, ['one', 'ten', 'text', 'none', ODD]],
  [{ page: { $in: [1, '2', true] } }, ['one', 'text']],
  [{ page: { $in: [] } }, []],
  [{ page: { $nin: [1, 2, 10] } }, ['text', 'none', ODD]],
  [{ page: { $gt: 1 } }, ['two', 'ten']],
  [{ page: { $gte: 2, $lt: 10 } }, ['two']],
  [{ page: { $lte: '2' } }, ['text']],
  [{ day: { $gte: '2026-03-01', $lt: '2026-11-30' } }, ['ten']],
  [{ flag: { $gt: 0 } }, []],
  [{ lang: { $exists: true } }, ['one', 'two', 'ten']],
  [{ lang: { $exists: false } }, ['text', 'none', ODD]],
  [{ author: { born: { $lt: 2000 } } }, ['one']],
  [{ author: { born: { $exists: false } } }, ['two', 'ten', 'text', 'none', ODD]],
  [{ author: { $exists: true, name: 'Bob' } }, ['two']],
  [{ author: { name: { $in: ['Ann', 'Bob'] }, born: 1980 } }, ['one']],
  [{ page: { $not: { $gt: 1 } } }, ['one', 'text', 'none', ODD]],
  [{ $not: { page: { $gt: 1 } } }, ['one', 'text', 'none', ODD]],
  [{ $or: [{ page: 1 }, { day: { $exists: true } }] }, ['one', 'ten', 'text']],
  [{ $and: [{ page: { $gte: 1 } }, { $or: [{ lang: 'de' }, { lang: 'fr' }] }], author: { name: 'Bob' } }, ['two']],
  [{ 'a.b': { $eq: 1 } }, [ODD]],
  [{ '': { $eq: 'x' } }, [ODD]],
  [{ "o'clock": { $in: ['%L', "'; drop table x; --"] } }, [ODD]],
  [{ $id: ODD }, [ODD]],
  [{ $id: { $in: ['one', 'two'] } }, ['one', 'two']],
  [{ $title: 'First' }, ['one']],
  [{ $source: { $exists: false } }, ['two', 'ten', 'text', 'none', ODD]],
  [{ $source: { $ne: 'a.pdf' } }, ['two', 'ten', 'text', 'none', ODD]],
  [{ $parentId: 'one' }, []],
])('%j', async ([filter, expected]) => {
  expect(await matching(filter)).toEqual(expected)
})

const deep = (levels: number): Filter => (levels === 0 ? { page: 1 } : { $not: deep(levels - 1) })

describe('refused, by the client before anything is sent and by the database', () => {
  test.for<[unknown, string]>([
    [{ page: { $regex: '.*' } }, 'has the unknown operator "$regex"'],
    [{ $where: 'true' }, 'has the unknown operator "$where"'],
    [{ author: { name: { $like: 'A%' } } }, 'has the unknown operator "$like"'],
    [{ page: { $gt: null } }, 'needs a number or a string for $gt'],
    [{ page: { $lt: [1] } }, 'needs a number or a string for $lt'],
    [{ page: { $in: 1 } }, 'needs an array of up to 1000 values for $in'],
    [{ page: { $nin: Array(1001).fill(0) } }, 'needs an array of up to 1000 values for $nin'],
    [{ page: { $exists: 'yes' } }, 'needs true or false for $exists'],
    [{ page: { $not: 1 } }, 'needs an object for $not'],
    [{ $and: [] }, 'needs an array of filters for $and'],
    [{ $or: { page: 1 } }, 'needs an array of filters for $or'],
    [{ $or: [1] }, 'needs an object inside of $and, $or and $not'],
    [{ $not: [] }, 'needs an object inside of $and, $or and $not'],
    [{ $source: { path: 'x' } }, 'has "path" where an operator belongs'],
    [deep(16), 'is nested more than 16 levels deep'],
  ])('%j', async ([filter, problem]) => {
    await expectError(documents().count({ filter: filter as Filter }), 'invalid_filter', literally(problem))
    for (const call of [
      "rowhouse.count_documents('documents', $1)",
      "rowhouse.search_documents('documents', '[1,1]', p_filter => $1)",
      "rowhouse.search_documents('documents', p_text => 'x', p_filter => $1)",
      "rowhouse.delete_documents_where('documents', $1)",
      "rowhouse.find_words('rowhouse.documents_documents', 'x', 'all', 10, $1)",
    ]) {
      const literal = `'${JSON.stringify(filter).replaceAll("'", "''")}'::jsonb`
      const refused = rowsInTenant(fixture.app, ACME, `select ${call.replace('$1', () => literal)}`)
      await expect(refused, call).rejects.toMatchObject({ code: 'RH025', message: `the filter ${problem}` })
    }
    expect(await documents().count()).toBe(ALL.length)
  })

  test.for<[unknown, string]>([
    [[], 'is not an object'],
    ['page = 1', 'is not an object'],
    [{ a: 'x\0' }, 'contains a zero byte'],
    [{ a: { $eq: '\ud800' } }, 'half of a character'],
    [{ a: 1n }, 'can not be written as JSON'],
    [{ a: 'x'.repeat(70_000) }, 'has more than 65536 bytes'],
  ])('before it becomes JSON: %o', async ([filter, problem]) => {
    for (const call of [
      () => documents().count({ filter: filter as Filter }),
      () => documents().search({ embedding: [1, 1], filter: filter as Filter }),
      () => documents().deleteWhere(filter as Filter),
    ]) {
      await expectError(call(), 'invalid_filter', problem)
    }
  })
})

test('deleteWhere deletes what a search with the filter finds, of its tenant, and refuses to mean everything', async () => {
  await expectError(documents().deleteWhere({}), 'invalid_filter', 'empty')
  expect(await documents().deleteWhere({ page: { $gte: 2 } })).toBe(2)
  expect(await documents().count()).toBe(ALL.length - 2)
  expect(await fixture.rowhouse.tenant(GLOBEX).documents().count()).toBe(ALL.length)
})

const literally = (text: string) => new RegExp(text.replace(/[$.*+?^{}()|[\]\\]/g, '\\$&'))
