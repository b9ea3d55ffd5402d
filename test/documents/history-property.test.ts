// For random histories over several tenants, one of which is promoted and demoted meanwhile, what a tenant finds is what a
// model finds that saw this tenant's operations only.
import fc from 'fast-check'
import { beforeAll, expect, test } from 'vitest'
import type { Documents, EmbeddedDocument, EmbeddingSearch } from '../../src/index.ts'
import { useDatabase } from '../setup/database.ts'
import { ACME, GLOBEX, useRowhouse } from './fixture.ts'

const database = useDatabase({ needs: ['pgvector'] })
const fixture = useRowhouse(database)
const INITECH = 'initech'
const TENANTS = [ACME, GLOBEX, INITECH]
const COLLECTION = 'history'

interface Written {
  readonly word: string
  readonly place: number
}
/** `near` is where its embedding is: an update of the metadata leaves it as it was. */
type Stored = Map<string, { readonly metadata: Written; readonly near: number }>
type Operation =
  | { kind: 'upsert'; tenant: string; documents: readonly (Written & { id: string })[] }
  | { kind: 'update'; tenant: string; id: string; place: number }
  | { kind: 'delete' | 'get'; tenant: string; id: string }
  | { kind: 'deleteWhere' | 'count'; tenant: string; place: number }
  | { kind: 'nearest'; tenant: string; place: number; limit: number }
  | { kind: 'words'; tenant: string; word: string }
  | { kind: 'promote' | 'demote'; tenant: string }

// Few of each, so that they meet.
const tenant = fc.constantFrom(...TENANTS)
const id = fc.constantFrom('a', 'b', 'c', 'd')
const word = fc.constantFrom('refund', 'invoice')
const place = fc.integer({ min: 0, max: 4 })
const documents = fc.uniqueArray(fc.record({ id, word, place }), {
  minLength: 1,
  maxLength: 3,
  selector: (document) => document.id,
})
const operation: fc.Arbitrary<Operation> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('upsert'), tenant, documents }) },
  fc.record({ kind: fc.constant('update'), tenant, id, place }),
  fc.record({ kind: fc.constantFrom('delete', 'get'), tenant, id }),
  fc.record({ kind: fc.constantFrom('deleteWhere', 'count'), tenant, place }),
  fc.record({ kind: fc.constant('nearest'), tenant, place, limit: fc.integer({ min: 1, max: 5 }) }),
  fc.record({ kind: fc.constant('words'), tenant, word }),
  fc.record({ kind: fc.constantFrom('promote', 'demote'), tenant: fc.constant(ACME) }),
)

beforeAll(async () => {
  await fixture.rowhouse.tenants.provision(INITECH)
  await fixture.rowhouse.collections.create(COLLECTION, { dimensions: 2, metric: 'l2', language: 'english' })
})

/** What the operation does to the model, and returns. */
function model(stored: Stored, step: Operation): unknown {
  const having = (key: keyof Written, value: unknown) =>
    [...stored].filter(([, { metadata }]) => metadata[key] === value).map(([documentId]) => documentId)
  switch (step.kind) {
    case 'upsert':
      for (const { id, ...metadata } of step.documents) stored.set(id, { metadata, near: metadata.place })
      return step.documents.map((document) => document.id)
    case 'update': {
      const before = stored.get(step.id)
      if (before === undefined) return false
      stored.set(step.id, { ...before, metadata: { ...before.metadata, place: step.place } })
      return true
    }
    case 'delete':
      return stored.delete(step.id) ? 1 : 0
    case 'get':
      return stored.get(step.id)?.metadata
    case 'deleteWhere':
      return having('place', step.place).filter((documentId) => stored.delete(documentId)).length
    case 'count':
      return having('place', step.place).length
    case 'nearest': {
      // The distances: of several documents that are as near, any may be left out.
      const distances = [...stored.values()].map(({ near }) => Math.abs(near - step.place))
      return distances.sort((one, other) => one - other).slice(0, step.limit)
    }
    case 'words':
      return having('word', step.word)
    default:
      return undefined
  }
}

async function run(on: Documents<EmbeddedDocument, EmbeddingSearch>, step: Operation): Promise<unknown> {
  switch (step.kind) {
    case 'upsert':
      return on.upsert(
        step.documents.map((document) => ({
          id: document.id,
          content: `The ${document.word} of ${step.tenant}.`,
          embedding: [document.place, 0],
          metadata: { word: document.word, place: document.place },
        })),
      )
    case 'update': {
      const [before] = await on.get([step.id])
      return on.update(step.id, { metadata: { ...before?.metadata, place: step.place } })
    }
    case 'delete':
      return on.delete(step.id)
    case 'get': {
      const found = await on.get(step.id)
      if (found !== undefined) expect(found.content).toBe(`The ${found.metadata.word} of ${step.tenant}.`)
      return found?.metadata
    }
    case 'deleteWhere':
      return on.deleteWhere({ place: step.place })
    case 'count':
      return on.count({ filter: { place: step.place } })
    case 'nearest': {
      const hits = await on.search({ embedding: [step.place, 0], limit: step.limit })
      for (const hit of hits) expect(hit.content).toContain(step.tenant)
      return hits.map((hit) => hit.distance)
    }
    case 'words': {
      const hits = await on.search({ mode: 'text', text: step.word, limit: 10 })
      return hits.map((hit) => hit.id)
    }
    default:
      await fixture.rowhouse.tenants[step.kind](step.tenant)
      return undefined
  }
}

/** Words rank documents that are alike in any order. */
const comparable = (step: Operation, result: unknown) =>
  step.kind === 'words' ? (result as string[]).toSorted() : result

test('a tenant finds what it would find if it were alone', async () => {
  let promoted = false
  await fc.assert(
    fc.asyncProperty(fc.array(operation, { maxLength: 40 }), async (steps) => {
      const models = new Map<string, Stored>()
      for (const tenantId of TENANTS) {
        models.set(tenantId, new Map())
        await fixture.rowhouse.tenant(tenantId).documents(COLLECTION).delete(['a', 'b', 'c', 'd'])
      }
      for (const step of steps) {
        if (step.kind === 'promote' || step.kind === 'demote') {
          if (promoted === (step.kind === 'promote')) continue
          promoted = !promoted
        }
        const on = fixture.rowhouse.tenant(step.tenant).documents(COLLECTION)
        expect(comparable(step, await run(on, step))).toEqual(comparable(step, model(models.get(step.tenant)!, step)))
      }
      for (const [tenantId, stored] of models) {
        expect(await fixture.rowhouse.tenant(tenantId).documents(COLLECTION).count()).toBe(stored.size)
      }
    }),
    { numRuns: 100 },
  )
}, 240_000)
