import { beforeAll, describe, expect, test } from 'vitest'
import { rowsInTenant } from '../isolation/support/in-tenant.ts'
import { useDatabase } from '../setup/database.ts'
import { ACME, expectError, useRowhouse } from './fixture.ts'

const database = useDatabase({ needs: ['pgvector'] })
const fixture = useRowhouse(database)

beforeAll(async () => {
  await fixture.rowhouse.collections.create('documents', { dimensions: 3 })
  await fixture.rowhouse.collections.create('halves', { dimensions: 3, elementType: 'halfvec', metric: 'l2' })
})

const documents = (collection = 'documents') => fixture.rowhouse.tenant(ACME).documents(collection)
const good = { id: 'good', content: 'good', embedding: [1, 0, 0] }

/** Refused, and nothing of the call was written. */
async function expectRefused(bad: object, code: string, message: string, collection?: string): Promise<void> {
  await expectError(documents(collection).upsert([good, { ...good, id: 'bad', ...bad }]), code, message)
  expect(await documents(collection).count()).toBe(0)
}

describe('the client refuses before anything is sent', () => {
  const nan = [1, Number.NaN, 0]
  test.for<[string, object, string, string]>([
    ['no number', { embedding: nan }, 'invalid_embedding', 'of document 2 of 2 holds NaN at position 1'],
    ['minus infinity', { embedding: [1, -Infinity, 0] }, 'invalid_embedding', 'holds -Infinity at position 1'],
    ['infinity', { embedding: [1, Infinity, 0] }, 'invalid_embedding', 'holds Infinity at position 1'],
    ['more than 4 bytes hold', { embedding: [1, 1e39, 0] }, 'invalid_embedding', 'a number out of range at position 1'],
    ['a string', { embedding: [1, '2', 0] }, 'invalid_embedding', 'holds string at position 1'],
    ['a hole', { embedding: [1, undefined, 0] }, 'invalid_embedding', 'holds undefined at position 1'],
    [
      'other dimensions',
      { embedding: [1, 2] },
      'invalid_embedding',
      'of document 2 of 2 has 2 dimensions, that of document 1 has 3',
    ],
    ['an empty embedding', { embedding: [] }, 'invalid_embedding', 'of document 2 of 2 is empty'],
    ['no array', { embedding: '[1,2,3]' }, 'invalid_embedding', 'is no array of numbers'],
    ['no embedding', { embedding: undefined }, 'invalid_embedding', 'Document 2 of 2 has no embedding'],
    ['empty content', { content: '' }, 'invalid_document', 'Document 2 of 2: content is empty'],
    ['no content', { content: undefined }, 'invalid_document', 'content is not a string'],
    ['a zero byte', { content: 'a\0b' }, 'invalid_document', 'content contains a zero byte'],
    ['half a character', { content: '\ud83d' }, 'invalid_document', 'use text.toWellFormed\\(\\)'],
    [
      'too much content',
      { content: 'x'.repeat(1_000_001) },
      'invalid_document',
      'content has more than 1000000 characters',
    ],
    ['an empty id', { id: '' }, 'invalid_document', 'id is empty'],
    ['a long id', { id: 'x'.repeat(257) }, 'invalid_document', 'id has more than 256 characters'],
    ['an id that is a number', { id: 7 }, 'invalid_document', 'id is not a string'],
    ['an id twice', { id: 'good' }, 'invalid_document', 'Document 2 of 2 has the id of document 1'],
    ['an array as metadata', { metadata: [] }, 'invalid_document', 'metadata is not an object'],
    ['text as metadata', { metadata: 'x' }, 'invalid_document', 'metadata is not an object'],
    ['a date as metadata', { metadata: new Date() }, 'invalid_document', 'metadata is not an object'],
    ['a zero byte in metadata', { metadata: { a: '\0' } }, 'invalid_document', 'metadata contains a zero byte'],
    ['a bigint in metadata', { metadata: { a: 1n } }, 'invalid_document', 'metadata can not be written as JSON'],
    [
      'too much metadata',
      { metadata: { a: 'x'.repeat(300_000) } },
      'invalid_document',
      'metadata has more than 262144 bytes',
    ],
    ['an unknown property', { text: 'x' }, 'invalid_document', 'unrecognized key: "text"'],
  ])('%s', async ([, bad, code, message]) => {
    await expectRefused(bad, code, message)
  })

  test('no document', async () => {
    await expectError(documents().upsert([]), 'invalid_document', 'There is no document to write')
    await expectError(documents().upsert(good as never), 'invalid_document', 'takes an array')
  })

  test.for<[object, string]>([
    [{ limit: 0 }, 'limit is less than 1'],
    [{ limit: 1001 }, 'limit is more than 1000'],
    [{ limit: 1.5 }, 'limit is not a whole number'],
    [{ minScore: Number.NaN }, 'minScore is not a finite number'],
    [{ strategy: 'fast' }, 'strategy is not auto, exact or index'],
    [{ where: {} }, 'unrecognized key: "where"'],
  ])('a search with %o', async ([query, message]) => {
    await expectError(documents().search({ embedding: [1, 2, 3], ...query } as never), 'invalid_argument', message)
  })

  test('names that no collection has', async () => {
    for (const name of ['', 'Documents', '1', 'a-b', 'a;drop', 'x'.repeat(49)]) {
      expect(() => documents(name)).toThrow('The name of the collection is not 1 to 48')
    }
  })
})

describe('the database refuses', () => {
  test.for<[string, object, string, string]>([
    ['no direction', { embedding: [0, 0, 0] }, 'documents', 'of document "bad" has no direction'],
    ['no direction in 4 bytes', { embedding: [1e-50, 0, 0] }, 'documents', 'of document "bad" has no direction'],
    ['a length out of range', { embedding: [1e30, 0, 0] }, 'documents', 'has no direction'],
    ['more than 2 bytes hold', { embedding: [70_000, 0, 0] }, 'halves', 'out of range for type halfvec'],
  ])('%s', async ([, bad, collection, message]) => {
    await expectRefused(bad, 'invalid_embedding', message, collection)
  })

  test('too few and too many dimensions', async () => {
    const upsert = (embedding: number[]) =>
      documents().upsert([
        { content: 'a', embedding },
        { content: 'b', embedding },
      ])
    await expectError(
      upsert([1, 2]),
      'invalid_embedding',
      'of document 1 of 2 is invalid: expected 3 dimensions, not 2',
    )
    await expectError(
      upsert([1, 2, 3, 4]),
      'invalid_embedding',
      'of document 1 of 2 is invalid: expected 3 dimensions, not 4',
    )
    expect(await documents().count()).toBe(0)
  })

  test('a zero vector is fine where direction does not matter', async () => {
    await documents('halves').upsert([{ ...good, embedding: [0, 0, 0] }])
    expect(await documents('halves').search({ embedding: [0, 0, 0] })).toMatchObject([{ distance: 0, score: 1 }])
    await documents('halves').delete('good')
  })

  test('searches with a bad embedding', async () => {
    await expectError(documents().search({ embedding: [1, 2] }), 'invalid_embedding', 'expected 3 dimensions, not 2')
    await expectError(documents().search({ embedding: [0, 0, 0] }), 'invalid_embedding', 'no direction')
  })

  test('collections that do not exist', async () => {
    const nowhere = documents('nowhere')
    for (const call of [
      () => nowhere.upsert([good]),
      () => nowhere.search({ embedding: [1] }),
      () => nowhere.get('x'),
      () => nowhere.delete('x'),
      () => nowhere.count(),
    ]) {
      const error = await expectError(call(), 'collection_not_found', 'collection "nowhere" does not exist')
      expect(error.httpStatus).toBe(404)
    }
  })

  // What a client in another language may send.
  test.for<[string, string, string]>([
    ['RH024', "null, array['a'], array['[1,2,3]','[1,2,3]']", 'not equally many'],
    ['RH024', "null, '{}', '{}'", 'no document to write'],
    ['RH024', 'null, null, null', 'no document to write'],
    ['RH024', "array['x'], array[''], array['[1,2,3]']", 'document "x" has no content'],
    ['RH024', "array['x'], array[null], array['[1,2,3]']", 'document "x" has no content'],
    ['RH024', "array[''], array['a'], array['[1,2,3]']", 'has an empty id'],
    ['RH024', "array['x','x'], array['a','b'], array['[1,2,3]','[1,2,3]']", 'document "x" has the id of another'],
    ['RH024', "array['x'], array['a'], array['[1,2,3]'], array['[]']::jsonb[]", 'metadata that is no JSON object'],
    ['RH024', "array[repeat('x', 257)], array['a'], array['[1,2,3]']", 'id of more than 256'],
    ['RH024', "array['x'], array[repeat('a', 1000001)], array['[1,2,3]']", 'content of more than 1000000'],
    ['RH023', "array['x'], array['a'], array['[1,NaN,3]']", 'NaN not allowed'],
    ['RH023', "array['x'], array['a'], array['1,2,3']", 'is no list of numbers'],
    ['RH023', "array['x'], array['a'], array[null]", 'is missing'],
  ])('%s: upsert_documents of %s', async ([sqlstate, values, message]) => {
    const call = rowsInTenant(fixture.app, ACME, `select rowhouse.upsert_documents('documents', ${values})`)
    await expect(call).rejects.toMatchObject({ code: sqlstate, message: expect.stringContaining(message) })
  })

  test.for<[string, string, string]>([
    ['22023', "'[1,2,3]', 0", 'limit'],
    ['22023', "'[1,2,3]', null", 'limit'],
    ['RH025', "'[1,2,3]', 10, '[]'", 'the filter is no JSON object'],
    ['22023', "'[1,2,3]', p_strategy => 'best'", 'strategy'],
    ['RH023', 'null', 'is missing'],
    ['RH023', "'x'", 'is no list of numbers'],
  ])('%s: search_documents of %s', async ([sqlstate, values, message]) => {
    const call = rowsInTenant(fixture.app, ACME, `select * from rowhouse.search_documents('documents', ${values})`)
    await expect(call).rejects.toMatchObject({ code: sqlstate, message: expect.stringContaining(message) })
  })

  test('rows that go around the functions', async () => {
    const insert = (values: string) =>
      rowsInTenant(
        fixture.app,
        ACME,
        `insert into rowhouse.documents_documents (document_id, content, metadata, embedding) values (${values})`,
      )
    await expect(insert("'x', 'a', '[]', '[1,2,3]'")).rejects.toMatchObject({
      code: '23514',
      constraint: 'metadata_object',
    })
    await expect(insert("'x', 'a', '{}', '[0,0,0]'")).rejects.toMatchObject({
      code: '23514',
      constraint: 'embedding_direction',
    })
    await expect(insert("'', 'a', '{}', '[1,2,3]'")).rejects.toMatchObject({
      code: '23514',
      constraint: 'document_id_length',
    })
    await expect(insert("'x', '', '{}', '[1,2,3]'")).rejects.toMatchObject({
      code: '23514',
      constraint: 'content_length',
    })
    await expect(insert("'x', 'a', '{}', null")).rejects.toMatchObject({ code: '23502' })
  })
})
