// Maximal marginal relevance, against the same algorithm in TypeScript.
import { beforeAll, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { ACME, distance, randomVectors, useRowhouse } from './fixture.ts'

const database = useDatabase({ needs: ['pgvector'] })
const fixture = useRowhouse(database)
const vectors = randomVectors(5, 120, 6)
const queries = randomVectors(6, 5, 6)

beforeAll(async () => {
  for (const metric of ['cosine', 'l2', 'inner_product'] as const) {
    await fixture.rowhouse.collections.create(metric, { dimensions: 6, metric })
    await fixture.rowhouse
      .tenant(ACME)
      .documents(metric)
      .upsert(vectors.map((embedding, index) => ({ id: `${index}`, content: `number ${index}`, embedding })))
  }
})

/** One after another the best by relevance and by how little it resembles those before it. */
function choose(ids: readonly string[], scores: readonly number[], count: number, diversity: number): string[] {
  const [highest, lowest] = [scores[0]!, scores.at(-1)!]
  const similarity = (one: string, other: string) =>
    1 - distance('cosine', vectors[Number(one)]!, vectors[Number(other)]!)
  const chosen: string[] = []
  while (chosen.length < Math.min(count, ids.length)) {
    const values = ids.map((id, index) =>
      chosen.includes(id)
        ? Number.NEGATIVE_INFINITY
        : (1 - diversity) * (highest > lowest ? (scores[index]! - lowest) / (highest - lowest) : 1) -
          diversity * Math.max(-1, ...chosen.map((other) => similarity(id, other))),
    )
    chosen.push(ids[values.indexOf(Math.max(...values))]!)
  }
  return chosen
}

test.for(['cosine', 'l2', 'inner_product'] as const)('%s: chosen as the model chooses', async (metric) => {
  const documents = fixture.rowhouse.tenant(ACME).documents(metric)
  for (const embedding of queries) {
    const all = await documents.search({ embedding, limit: 60 })
    for (const diversity of [0.2, 0.5, 1]) {
      const hits = await documents.search({ embedding, limit: 12, diversity, candidates: 60 })
      const expected = choose(
        all.map(({ id }) => id),
        all.map(({ score }) => score),
        12,
        diversity,
      )
      expect(hits.map(({ id }) => id)).toEqual(expected)
      for (const hit of hits) expect(hit.vectorRank).toBe(all.findIndex(({ id }) => id === hit.id) + 1)
    }
  }
})

test('0 changes nothing, and more makes hits differ more', async () => {
  const documents = fixture.rowhouse.tenant(ACME).documents('cosine')
  const resemblance: number[] = []
  for (const diversity of [0, 0.5, 1]) {
    let sum = 0
    for (const embedding of queries) {
      const hits = await documents.search({ embedding, limit: 8, candidates: 60, diversity })
      if (diversity === 0) expect(hits).toEqual(await documents.search({ embedding, limit: 8 }))
      for (const one of hits) {
        for (const other of hits) sum -= distance('cosine', vectors[Number(one.id)]!, vectors[Number(other.id)]!)
      }
    }
    resemblance.push(sum)
  }
  expect(resemblance).toEqual(resemblance.toSorted((one, other) => other - one))
  expect(resemblance[0]).toBeGreaterThan(resemblance[2]!)
})

test('of fewer documents than asked for, all come', async () => {
  const documents = fixture.rowhouse.tenant(ACME).documents('cosine')
  const filter = { $id: { $in: ['1', '2', '3'] } }
  expect(await documents.search({ embedding: queries[0]!, diversity: 0.5, filter })).toHaveLength(3)
  expect(await documents.search({ embedding: queries[0]!, diversity: 0.5, filter: { $id: '1' } })).toHaveLength(1)
  expect(await documents.search({ embedding: queries[0]!, diversity: 0.5, filter: { $id: 'x' } })).toEqual([])
})
