import { AsyncLocalStorage } from 'node:async_hooks'
import { beforeAll, describe, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { ACME, expectError, GLOBEX, randomVectors, useRowhouse } from './fixture.ts'

const database = useDatabase({ needs: ['pgvector'] })
const fixture = useRowhouse(database)
const documents = (tenantId = ACME, collection = 'documents') => fixture.rowhouse.tenant(tenantId).documents(collection)

beforeAll(async () => {
  await fixture.rowhouse.collections.create('documents', { dimensions: 8 })
  await fixture.rowhouse.collections.create('wide', { dimensions: 1000, index: false })
})

test('10,000 documents in one call', async () => {
  const vectors = randomVectors(7, 10_000, 8)
  const ids = await documents().upsert(
    vectors.map((embedding, index) => ({ id: `d${index}`, content: `document ${index}`, embedding })),
  )
  expect(ids).toEqual(vectors.map((_, index) => `d${index}`))
  expect(await documents().count()).toBe(10_000)
  expect((await documents().search({ embedding: vectors[1234]!, limit: 1, strategy: 'exact' }))[0]).toMatchObject({
    id: 'd1234',
    score: 1,
  })
  expect(await documents().delete(ids)).toBe(10_000)
}, 60_000)

describe('more than one statement holds', () => {
  // 2,500 documents of about 6 kB.
  const many = (count: number) =>
    randomVectors(8, count, 1000).map((embedding, index) => ({
      id: `d${index}`,
      content: `document ${index}`,
      embedding,
    }))

  test('all documents are written, in one transaction', async () => {
    const all = [...many(2500), { content: 'without an id', embedding: many(1)[0]!.embedding }]
    const ids = await documents(ACME, 'wide').upsert(all)
    expect(ids.slice(0, -1)).toEqual(all.slice(0, -1).map((document) => (document as { id: string }).id))
    expect(await documents(ACME, 'wide').get([ids[7]!, ids[2500]!])).toMatchObject([
      { content: 'document 7' },
      { content: 'without an id' },
    ])
    expect(await documents(ACME, 'wide').count()).toBe(2501)
  }, 60_000)

  test('or none', async () => {
    const globex = documents(GLOBEX, 'wide')
    const all = many(2500)
    // Sorts last, so it is found by the last statement.
    all[3] = { id: 'z', content: 'no direction', embedding: new Array(1000).fill(0) }
    await expectError(globex.upsert(all), 'invalid_embedding', 'of document "z" has no direction')
    expect(await globex.count()).toBe(0)
  }, 60_000)
})

describe('concurrency', needs('parallelBackends'), () => {
  test('upserts of the same documents in any order wait for each other and do not deadlock', async () => {
    const ids = Array.from({ length: 200 }, (_, index) => `d${index}`)
    const [embedding] = randomVectors(9, 1, 8)
    const writers = Array.from({ length: 5 }, async (_, writer) => {
      const order = writer % 2 === 0 ? ids : ids.toReversed()
      for (let round = 0; round < 5; round++) {
        await documents().upsert(
          order.map((id) => ({ id, content: `writer ${writer}`, embedding: embedding!, metadata: { writer, round } })),
        )
      }
    })
    await Promise.all(writers)
    // One of the calls came last, as a whole.
    const written = await documents().get(ids)
    expect(written).toHaveLength(200)
    expect(new Set(written.map(({ metadata }) => JSON.stringify(metadata))).size).toBe(1)
    expect(await documents().delete(ids)).toBe(200)
  }, 60_000)

  test('two tenants with the same ids do not wait for each other', async () => {
    const [embedding] = randomVectors(10, 1, 8)
    const same = [{ id: 'same', content: 'x', embedding: embedding! }]
    // Another request: outside of the transaction that is open meanwhile.
    const elsewhere = AsyncLocalStorage.snapshot()
    await fixture.rowhouse.withTenant(ACME, async (_db, acme) => {
      await acme.documents().upsert(same)
      // Would wait for ever, if it waited for the transaction around it.
      expect(await elsewhere(() => documents(GLOBEX).upsert(same))).toEqual(['same'])
    })
    await documents().delete('same')
    await documents(GLOBEX).delete('same')
  })

  test('searches and writes at once', async () => {
    const vectors = randomVectors(11, 300, 8)
    const write = async () => {
      for (let start = 0; start < 300; start += 50) {
        await documents().upsert(
          vectors
            .slice(start, start + 50)
            .map((embedding, index) => ({ id: `d${start + index}`, content: 'x', embedding })),
        )
      }
    }
    const search = async () => {
      for (let round = 0; round < 30; round++) {
        const hits = await documents().search({
          embedding: vectors[round]!,
          strategy: round % 2 === 0 ? 'index' : 'exact',
        })
        expect(hits.every(({ tenantId }) => tenantId === ACME)).toBe(true)
      }
    }
    await Promise.all([write(), search(), search()])
    expect(await documents().count()).toBe(300)
  }, 60_000)
})
