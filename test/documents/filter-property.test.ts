// Random filters over random metadata: the database finds exactly what a model of filters in TypeScript finds.
import fc from 'fast-check'
import { beforeAll, expect, test } from 'vitest'
import type { Filter } from '../../src/index.ts'
import { useDatabase } from '../setup/database.ts'
import { matches } from './filter-model-support.ts'
import { ACME, GLOBEX, useRowhouse } from './fixture.ts'

const database = useDatabase({ needs: ['pgvector'] })
const fixture = useRowhouse(database)

const RUNS = Number(process.env.ROWHOUSE_FILTER_RUNS ?? 300)
/** Few keys and values, so that filters meet documents. */
const key = fc.constantFrom('a', 'b', 'c', '0', '', "'", '"%s"', 'ü')
const text = fc.constantFrom('', 'a', 'b', '1', 'ä', '\u{1f600}', '\uffff', "'; --", '\\', '%L')
const scalar = fc.oneof(text, fc.constantFrom(0, -0.5, 1, 1.5, 100, 1e20), fc.boolean(), fc.constant(null))
const { value } = fc.letrec<{ value: any }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 2 },
    { arbitrary: scalar, weight: 4 },
    { arbitrary: fc.array(tie('value'), { maxLength: 2 }), weight: 1 },
    { arbitrary: fc.dictionary(key, tie('value'), { maxKeys: 2 }), weight: 2 },
  ),
}))
const metadata = fc.dictionary(key, value, { maxKeys: 4 })

const operators = fc.record(
  {
    $eq: value,
    $ne: value,
    $in: fc.array(value, { maxLength: 3 }),
    $nin: fc.array(value, { maxLength: 3 }),
    $gt: fc.oneof(text, fc.integer({ min: -2, max: 2 })),
    $lte: fc.oneof(text, fc.constantFrom(-0.5, 1, 1e20)),
    $exists: fc.boolean(),
  },
  { requiredKeys: [] },
)
/** One operator, so that some documents match. */
const operator = fc.oneof(
  fc.record({ $exists: fc.boolean() }),
  fc.record({ $ne: scalar }),
  fc.record({ $nin: fc.array(scalar, { minLength: 1, maxLength: 3 }) }),
  fc.record({ $in: fc.array(scalar, { minLength: 2, maxLength: 6 }) }),
  fc.record({ $gte: fc.oneof(text, fc.constantFrom(-0.5, 0, 1)) }),
  fc.record({ $lt: fc.oneof(text, fc.constantFrom(1, 1.5, 1e20)) }),
)
const { filter } = fc.letrec<{ filter: Filter; field: any }>((tie) => ({
  field: fc.oneof(
    { maxDepth: 3 },
    { arbitrary: operator, weight: 4 },
    value,
    operators,
    fc.dictionary(key, tie('field'), { minKeys: 1, maxKeys: 2 }),
    fc.record({ $not: operators }),
  ),
  filter: fc.oneof(
    { maxDepth: 3 },
    fc.dictionary(key, tie('field'), { minKeys: 1, maxKeys: 2 }),
    fc.record({ $and: fc.array(tie('filter'), { minLength: 1, maxLength: 2 }) }),
    fc.record({ $or: fc.array(tie('filter'), { minLength: 1, maxLength: 3 }) }),
    fc.record({ $not: tie('filter') }),
  ),
}))

const stored = fc.sample(metadata, { numRuns: 200, seed: 7 })

beforeAll(async () => {
  await fixture.rowhouse.collections.create('documents', { dimensions: 1, language: 'none', metric: 'l2' })
  for (const [tenantId, list] of [
    [ACME, stored],
    [GLOBEX, stored.toReversed()],
  ] as const) {
    await fixture.rowhouse
      .tenant(tenantId)
      .documents()
      .upsert(list.map((metadata, index) => ({ id: `${index}`, content: 'x', embedding: [1], metadata })))
  }
})

test('the database and the model agree', { timeout: 300_000 }, async () => {
  const documents = fixture.rowhouse.tenant(ACME).documents()
  let found = 0
  await fc.assert(
    fc.asyncProperty(filter, async (filter) => {
      const hits = await documents.search({ embedding: [1], limit: 1000, filter, strategy: 'exact' })
      const expected = stored.flatMap((metadata, index) => (matches(filter, metadata) ? [`${index}`] : []))
      expect(hits.map(({ id }) => id).sort()).toEqual(expected.sort())
      expect(await documents.count({ filter })).toBe(expected.length)
      if (expected.length > 0 && expected.length < stored.length) found++
    }),
    { numRuns: RUNS, seed: 11 },
  )
  // Filters that match all or nothing would prove little.
  expect(found).toBeGreaterThan(RUNS / 5)
})
