// Hybrid search against reciprocal rank fusion in TypeScript, its weights, and bad input.
import { beforeAll, describe, expect, test } from 'vitest'
import type { SearchHit } from '../../src/index.ts'
import { rowsInTenant } from '../isolation/support/in-tenant.ts'
import { useDatabase } from '../setup/database.ts'
import { ACME, expectError, GLOBEX, randomVectors, useRowhouse } from './fixture.ts'

const database = useDatabase({ needs: ['pgvector'] })
const fixture = useRowhouse(database)
const documents = () => fixture.rowhouse.tenant(ACME).documents()

const COUNT = 400
const vectors = randomVectors(1, COUNT, 8)
const [query] = randomVectors(2, 1, 8) as [number[]]

beforeAll(async () => {
  await fixture.rowhouse.collections.create('documents', { dimensions: 8, exactLimit: 100 })
  for (const tenantId of [ACME, GLOBEX]) {
    await fixture.rowhouse
      .tenant(tenantId)
      .documents()
      .upsert(
        vectors.map((embedding, index) => ({
          id: `d${index}`,
          // The word "seven" the more often, the more sevens there are, so that ranks differ.
          content: `document ${index} ${'seven '.repeat([...`${index}`].filter((digit) => digit === '7').length)}`,
          embedding,
          metadata: { even: index % 2 === 0 },
        })),
      )
  }
})

/** Reciprocal rank fusion of two lists, as a part of the most there can be. */
function fuse(nearest: readonly SearchHit[], words: readonly SearchHit[], weights: [number, number], k: number) {
  const scores = new Map<string, number>()
  for (const [list, weight] of [
    [nearest, weights[0]],
    [words, weights[1]],
  ] as const) {
    for (const [index, { id }] of list.entries()) {
      scores.set(id, (scores.get(id) ?? 0) + (weight / (k + index + 1)) * ((k + 1) / (weights[0] + weights[1])))
    }
  }
  return scores
}

test.for<[string, object, [number, number], number]>([
  ['by default', {}, [1, 1], 60],
  ['words count more', { weights: { text: 3 } }, [1, 3], 60],
  ['words do not count', { weights: { text: 0 } }, [1, 0], 60],
  ['vectors do not count', { weights: { vector: 0 } }, [0, 1], 60],
  ['first places count more', { rankConstant: 1 }, [1, 1], 1],
  ['filtered', { filter: { even: true } }, [1, 1], 60],
  ['by the index', { strategy: 'index' }, [1, 1], 60],
  ['exactly', { strategy: 'exact' }, [1, 1], 60],
])('%s: the fusion of both lists', async ([_name, options, weights, k]) => {
  const { weights: _weights, rankConstant: _k, ...shared } = options as Record<string, unknown>
  const search = { embedding: query, text: 'seven', limit: 50, candidates: 50, ...shared }
  const nearest = await documents().search({ ...search, mode: 'vector' })
  const words = await documents().search({ ...search, mode: 'text' })
  expect(words.length).toBeGreaterThanOrEqual(20)
  const expected = fuse(nearest, words, weights, k)
  const hits = await documents().search({ ...search, ...options, mode: 'hybrid' })
  expect(hits).toHaveLength(50)
  for (const [index, hit] of hits.entries()) {
    expect(hit.tenantId).toBe(ACME)
    expect(hit.score).toBeCloseTo(expected.get(hit.id)!, 10)
    if (index > 0) expect(hit.score).toBeLessThanOrEqual(hits[index - 1]!.score)
    expect(hit.vectorRank).toBe(rankOf(nearest, hit.id))
    expect(hit.textRank).toBe(rankOf(words, hit.id))
    expect(hit.distance).toBeTypeOf('number')
    expect(hit.textStrategy).toBe('index')
    expect(hit.strategy).toBe('strategy' in options && options.strategy === 'exact' ? 'exact' : 'shared_index')
  }
  const lowest = hits.at(-1)!.score
  const missed = [...expected].filter(([id, score]) => score > lowest + 1e-12 && !hits.some((hit) => hit.id === id))
  expect(missed).toEqual([])
})

const rankOf = (list: readonly SearchHit[], id: string) => {
  const index = list.findIndex((hit) => hit.id === id)
  return index === -1 ? null : index + 1
}

test('a text alone is embedded for the vectors and searched for its words', async () => {
  const embed = async (texts: readonly string[]) => texts.map(() => query)
  const byText = fixture.rowhouse.tenant(ACME).documents('documents', { embed })
  const search = { mode: 'hybrid', text: 'seven', limit: 5 } as const
  expect(await byText.search(search)).toEqual(await documents().search({ ...search, embedding: query }))
  const vector = await byText.search({ text: 'seven', limit: 5 })
  expect(vector[0]).toMatchObject({ textRank: null, textStrategy: null, vectorRank: 1 })
})

test('documents that no word is found in are still found by their vectors', async () => {
  const hits = await documents().search({ mode: 'hybrid', embedding: query, text: 'unheard', limit: 3 })
  expect(hits.map(({ vectorRank, textRank }) => [vectorRank, textRank])).toEqual([
    [1, null],
    [2, null],
    [3, null],
  ])
  expect(hits[0]!.score).toBeCloseTo(0.5)
})

describe('refused', () => {
  test.for<[object, string]>([
    [{ mode: 'semantic' }, 'mode is not vector, text or hybrid'],
    [{ mode: 'hybrid', text: undefined }, 'mode hybrid needs a text'],
    [{ mode: 'text', text: undefined }, 'mode text needs a text'],
    [{ text: '' }, 'text is empty'],
    [{ text: 'a\0' }, 'text contains a zero byte'],
    [{ text: '\udc00' }, 'toWellFormed'],
    [{ text: 'x'.repeat(10_001) }, 'text has more than 10000 characters'],
    [{ match: 'most' }, 'match is not all or any'],
    [{ weights: { vector: -1 } }, 'weights.vector is less than 0'],
    [{ weights: { vector: 0, text: 0 } }, 'both weights are 0'],
    [{ weights: { vector: Number.POSITIVE_INFINITY } }, 'weights.vector is not a finite number'],
    [{ rankConstant: 0 }, 'rankConstant is less than 1'],
    [{ candidates: 1001 }, 'candidates is more than 1000'],
    [{ diversity: 1.1 }, 'diversity is more than 1'],
    [{ diversity: 0.5, limit: 201 }, 'at most 200'],
  ])('by the client: %o', async ([options, message]) => {
    const search = { mode: 'hybrid', embedding: query, text: 'seven', ...options }
    await expectError(documents().search(search as never), 'invalid_argument', message)
  })

  test.for<[string, string]>([
    ["p_mode => 'semantic'", 'the mode of a search'],
    ["p_mode => 'hybrid'", 'needs a text'],
    ["p_text => repeat('x', 10001)", 'up to 10000 characters'],
    ["p_text => 'x', p_match => 'most'", 'all or any'],
    ['p_vector_weight => -1', 'weights'],
    ["p_text_weight => 'NaN'", 'weights'],
    ['p_vector_weight => 0, p_text_weight => 0', 'weights'],
    ['p_rank_constant => 0', 'rank constant'],
    ['p_candidates => 0', 'candidates'],
    ['p_diversity => -0.1', 'diversity'],
    ["p_diversity => 'NaN'", 'diversity'],
    ['p_offset => -1', 'limit and offset'],
    ['p_offset => 995', 'limit and offset'],
  ])('by the database: %s', async ([options, message]) => {
    const embedding = `[${query}]`
    const call = rowsInTenant(
      fixture.app,
      ACME,
      `select * from rowhouse.search_documents('documents', '${embedding}', ${options})`,
    )
    await expect(call).rejects.toMatchObject({ code: '22023', message: expect.stringContaining(message) })
  })
})
