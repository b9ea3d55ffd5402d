// Pages of a search: together they are the list, and a cursor continues only the search that it belongs to.
import { beforeAll, describe, expect, test } from 'vitest'
import type { EmbeddingSearch } from '../../src/index.ts'
import { useDatabase } from '../setup/database.ts'
import { ACME, expectError, GLOBEX, randomVectors, useRowhouse } from './fixture.ts'

const database = useDatabase({ needs: ['pgvector'] })
const fixture = useRowhouse(database)
const documents = (tenantId = ACME, collection = 'documents') => fixture.rowhouse.tenant(tenantId).documents(collection)
const vectors = randomVectors(1, 150, 6)
const [embedding] = randomVectors(2, 1, 6) as [number[]]

beforeAll(async () => {
  for (const name of ['documents', 'others']) {
    await fixture.rowhouse.collections.create(name, { dimensions: 6, exactLimit: 50 })
    for (const tenantId of [ACME, GLOBEX]) {
      await documents(tenantId, name).upsert(
        vectors.map((embedding, index) => ({
          id: `${index}`,
          content: `word${index % 3} and ${index}`,
          embedding,
          metadata: { index },
        })),
      )
    }
  }
})

test.for<[string, EmbeddingSearch]>([
  ['vectors by the index', { embedding, strategy: 'index' }],
  ['vectors exactly', { embedding, strategy: 'exact' }],
  ['words', { mode: 'text', text: 'word1' }],
  ['both', { mode: 'hybrid', embedding, text: 'word1' }],
  ['diverse', { embedding, diversity: 0.4, candidates: 90 }],
  ['filtered', { embedding, filter: { index: { $lt: 30 } } }],
  ['few candidates', { embedding, candidates: 25 }],
  ['with a least score', { embedding, minScore: 0.2 }],
])('%s: pages are the list, each document once', async ([_name, query]) => {
  const whole = await documents().searchPage({ ...query, limit: query.candidates ?? 200 })
  expect(whole.nextCursor).toBeUndefined()
  const found: string[] = []
  let cursor: string | undefined
  let pages = 0
  do {
    const page = await documents().searchPage({ ...query, limit: 7 }, cursor)
    expect(page.hits.length).toBe(Math.min(7, whole.hits.length - found.length))
    found.push(...page.hits.map(({ id }) => id))
    cursor = page.nextCursor
    pages++
  } while (cursor !== undefined)
  expect(found).toEqual(whole.hits.map(({ id }) => id))
  expect(new Set(found).size).toBe(found.length)
  expect(pages).toBe(Math.ceil(whole.hits.length / 7))
})

test('pages of a text whose embedding is never quite the same belong together', async () => {
  let calls = 0
  const embed = async (texts: readonly string[]) => texts.map(() => embedding.map((value) => value + 1e-7 * calls++))
  const byText = fixture.rowhouse.tenant(ACME).documents('documents', { embed })
  const first = await byText.searchPage({ text: 'anything', limit: 5 })
  expect((await byText.searchPage({ text: 'anything', limit: 5 }, first.nextCursor)).hits).toHaveLength(5)
})

describe('a cursor', () => {
  const query = { embedding, limit: 5, filter: { index: { $gte: 10 } } } as const
  const cursor = async () => (await documents().searchPage(query)).nextCursor!

  test('of another tenant is refused', async () => {
    const foreign = (await documents(GLOBEX).searchPage(query)).nextCursor!
    const error = await expectError(documents().searchPage(query, foreign), 'invalid_cursor', 'another search')
    expect(error.httpStatus).toBe(400)
    expect(`${error.message} ${error.hint}`).not.toContain(GLOBEX)
  })

  test.for<[string, object]>([
    ['embedding', { embedding: embedding.map((value) => value + 0.1) }],
    ['filter', { filter: { index: { $gte: 11 } } }],
    ['strategy', { strategy: 'exact' }],
    ['mode', { mode: 'hybrid', text: 'word1' }],
    ['diversity', { diversity: 0.1 }],
    ['candidates', { candidates: 100 }],
    ['least score', { minScore: 0 }],
  ])('of a search with another %s is refused', async ([_name, change]) => {
    await expectError(documents().searchPage({ ...query, ...change } as never, await cursor()), 'invalid_cursor')
  })

  test('of another collection is refused', async () => {
    await expectError(documents(ACME, 'others').searchPage(query, await cursor()), 'invalid_cursor')
  })

  test('that somebody made up is refused', async () => {
    const [, digest] = Buffer.from(await cursor(), 'base64url')
      .toString()
      .split('.')
    const encode = (text: string) => Buffer.from(text).toString('base64url')
    for (const made of [
      '',
      'x',
      '5',
      encode('5'),
      encode('5.x'),
      encode(`-5.${digest}`),
      encode(`5e3.${digest}`),
      '\0',
      7,
    ]) {
      await expectError(documents().searchPage(query, made as string), 'invalid_cursor')
    }
    // One that is well made but beyond the end: there is nothing.
    expect(await documents().searchPage(query, encode(`9999.${digest}`))).toEqual({ hits: [], nextCursor: undefined })
  })

  test('continues with another limit', async () => {
    const page = await documents().searchPage({ ...query, limit: 3 }, await cursor())
    expect(page.hits).toEqual((await documents().searchPage({ ...query, limit: 8 })).hits.slice(5))
  })

  test('a page holds no more than its candidates', async () => {
    await expectError(documents().searchPage({ embedding, limit: 201 }), 'invalid_argument', 'at most 200')
  })
})
