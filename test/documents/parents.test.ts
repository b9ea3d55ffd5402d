// Parents and their parts: replaced as a whole, found with what they have from their parent, gone with it.
import { beforeAll, describe, expect, test } from 'vitest'
import type { Filter } from '../../src/index.ts'
import { rowsInTenant } from '../isolation/support/in-tenant.ts'
import { useDatabase } from '../setup/database.ts'
import { ACME, expectError, GLOBEX, useRowhouse } from './fixture.ts'

const database = useDatabase({ needs: ['pgvector'] })
const fixture = useRowhouse(database)
const documents = (tenantId = ACME) => fixture.rowhouse.tenant(tenantId).documents()
const parents = (tenantId = ACME) => documents(tenantId).parents

beforeAll(() => fixture.rowhouse.collections.create('documents', { dimensions: 3 }))

const HANDBOOK = {
  id: 'handbook',
  title: 'Handbook',
  source: 'handbook.pdf',
  metadata: { lang: 'en', team: 'people' },
  parts: [
    { content: 'Refunds take five days.', embedding: [1, 0, 0], metadata: { page: 1 } },
    { content: 'Leave takes two months.', embedding: [0, 1, 0], metadata: { page: 2, lang: 'fr' } },
    { id: 'last', content: 'The end.', embedding: [0, 0, 1] },
  ],
}

describe('a parent', () => {
  test('is written and read with its parts in their order', async () => {
    expect(await parents().upsert(HANDBOOK)).toEqual({ id: 'handbook', parts: ['handbook#1', 'handbook#2', 'last'] })
    expect(await parents().get('handbook')).toEqual({
      tenantId: ACME,
      id: 'handbook',
      title: 'Handbook',
      source: 'handbook.pdf',
      metadata: { lang: 'en', team: 'people' },
      parts: [
        {
          id: 'handbook#1',
          position: 0,
          content: HANDBOOK.parts[0]!.content,
          metadata: { lang: 'en', team: 'people', page: 1 },
        },
        {
          id: 'handbook#2',
          position: 1,
          content: HANDBOOK.parts[1]!.content,
          metadata: { lang: 'fr', team: 'people', page: 2 },
        },
        { id: 'last', position: 2, content: 'The end.', metadata: { lang: 'en', team: 'people' } },
      ],
      createdAt: expect.any(Date),
      updatedAt: expect.any(Date),
    })
    expect(await parents(GLOBEX).get('handbook')).toBeUndefined()
  })

  test('is what hits say they are a part of, and what they are filtered by', async () => {
    await documents().upsert([{ id: 'alone', content: 'Refunds, too.', embedding: [1, 0, 0] }])
    const [first] = await documents().search({ embedding: [1, 0, 0], filter: { $parentId: 'handbook' } })
    expect(first).toMatchObject({
      id: 'handbook#1',
      parentId: 'handbook',
      position: 0,
      title: 'Handbook',
      source: 'handbook.pdf',
    })
    const ids = async (filter: Filter) =>
      (await documents().search({ embedding: [1, 1, 1], filter })).map(({ id }) => id).toSorted()
    expect(await ids({ lang: 'en' })).toEqual(['handbook#1', 'last'])
    expect(await ids({ $parentId: { $exists: false } })).toEqual(['alone'])
    expect(await ids({ $title: 'Handbook', page: { $gte: 2 } })).toEqual(['handbook#2'])
    const words = await documents().search({ mode: 'text', text: 'handbook' })
    expect(words.map(({ parentId }) => parentId)).toEqual(['handbook', 'handbook', 'handbook'])
    expect(await documents().get('alone')).toMatchObject({ parentId: null, position: null, title: null })
  })

  test('is updated without embeddings; what a part has of its own stays', async () => {
    const before = await rowsInTenant(
      fixture.app,
      ACME,
      'select document_id, embedding::text from rowhouse.documents_documents order by 1',
    )
    expect(await parents().update('handbook', { title: 'Guide', metadata: { lang: 'de', year: 2026 } })).toBe(true)
    expect(await parents().get('handbook')).toMatchObject({
      title: 'Guide',
      source: 'handbook.pdf',
      metadata: { lang: 'de', year: 2026 },
      parts: [
        { metadata: { lang: 'de', year: 2026, page: 1 } },
        { metadata: { lang: 'fr', year: 2026, page: 2 } },
        { metadata: { lang: 'de', year: 2026 } },
      ],
    })
    expect((await parents().get('handbook'))!.parts[0]!.metadata).not.toHaveProperty('team')
    expect((await documents().search({ mode: 'text', text: 'guide' })).length).toBe(3)
    expect(await parents().update('handbook', { title: null })).toBe(true)
    expect((await parents().get('handbook'))!.title).toBeNull()
    expect(await parents().update('nowhere', { title: 'x' })).toBe(false)
    const after = await rowsInTenant(
      fixture.app,
      ACME,
      'select document_id, embedding::text from rowhouse.documents_documents order by 1',
    )
    expect(after).toEqual(before)
  })

  test('replaces its parts, all at once', async () => {
    const { parts } = await parents().upsert({ ...HANDBOOK, parts: [{ content: 'All new.', embedding: [1, 1, 0] }] })
    expect(parts).toEqual(['handbook#1'])
    expect((await parents().get('handbook'))!.parts).toMatchObject([{ content: 'All new.' }])
    expect(await documents().get(['handbook#2', 'last'])).toEqual([])
    expect(await documents().count()).toBe(2)
  })

  test('or, where a part is refused, nothing of it', async () => {
    for (const [part, code] of [
      [{ content: 'x', embedding: [1, 2] }, 'invalid_embedding'],
      [{ content: '', embedding: [1, 2, 3] }, 'invalid_document'],
      [{ content: 'a\0', embedding: [1, 2, 3] }, 'invalid_document'],
      [{ content: 'x', embedding: [0, 0, 0] }, 'invalid_embedding'],
      [{ id: 'alone', content: 'x', embedding: [1, 2, 3] }, 'invalid_document'],
    ] as const) {
      await expectError(parents().upsert({ ...HANDBOOK, title: 'Broken', parts: [{ ...part }] }), code)
    }
    expect(await parents().get('handbook')).toMatchObject({ title: 'Handbook', parts: [{ content: 'All new.' }] })
    expect(await documents().get('alone')).toMatchObject({ content: 'Refunds, too.', parentId: null })
  })

  test('gets a uuid when it has no id', async () => {
    const { id, parts } = await parents().upsert({ parts: [{ content: 'x', embedding: [1, 0, 0] }] })
    expect(id).toMatch(/^[0-9a-f-]{36}$/)
    expect(parts).toEqual([`${id}#1`])
    expect(await parents().delete(id)).toBe(1)
  })

  test('takes its parts along, and only its own', async () => {
    await parents(GLOBEX).upsert(HANDBOOK)
    expect(await parents().delete(['handbook', 'nowhere'])).toBe(1)
    expect(await parents().get('handbook')).toBeUndefined()
    expect(await documents().count()).toBe(1)
    expect((await parents(GLOBEX).get('handbook'))!.parts).toHaveLength(3)
  })

  test.for<[object, string]>([
    [{ parts: [] }, 'parts is empty'],
    [{ parts: 'x' }, 'parts is not an array'],
    [{ id: 'x'.repeat(241) }, 'id has more than 240'],
    [{ title: '' }, 'title is empty'],
    [{ source: 'x'.repeat(2001) }, 'source has more than 2000'],
    [{ metadata: [] }, 'metadata is not an object'],
    [{ parts: [{ content: 'x', embedding: [1, 2, 3], title: 'x' }] }, 'Part 1 of 1 unrecognized key: "title"'],
    [{ parts: [{ content: 'x' }] }, 'Part 1 of 1 has no embedding'],
  ])('%j is refused', async ([change, message]) => {
    const call = parents().upsert({ ...HANDBOOK, ...change } as never)
    await expectError(call, message.includes('embedding') ? 'invalid_embedding' : 'invalid_document', message)
    expect(await parents().get('handbook')).toBeUndefined()
  })
})

describe('concurrency', () => {
  test('several that replace one parent leave the parts of one of them', async () => {
    const versions = Array.from({ length: 6 }, (_, version) => ({
      ...HANDBOOK,
      title: `version ${version}`,
      parts: Array.from({ length: 1 + (version % 3) }, () => ({ content: `version ${version}`, embedding: [1, 0, 0] })),
    }))
    for (let round = 0; round < 3; round++) {
      await Promise.all([...versions.map((version) => parents().upsert(version)), parents().delete('handbook')])
      const parent = await parents().get('handbook')
      for (const part of parent?.parts ?? []) expect(part.content).toBe(parent!.title)
      if (parent !== undefined) {
        expect(parent.parts).toHaveLength(1 + (Number(parent.title!.slice(8)) % 3))
      }
    }
  })
})

describe('a document', () => {
  test('is updated without its embedding', async () => {
    await documents().upsert([
      { id: 'u', content: 'x', embedding: [1, 0, 0], metadata: { a: 1 }, title: 'Old', source: 's' },
    ])
    expect(await documents().update('u', { metadata: { b: 2 } })).toBe(true)
    expect(await documents().get('u')).toMatchObject({ metadata: { b: 2 }, title: 'Old', source: 's' })
    expect(await documents().update('u', { title: 'New', source: null })).toBe(true)
    expect(await documents().get('u')).toMatchObject({ metadata: { b: 2 }, title: 'New', source: null })
    expect(await documents().update('nowhere', { title: 'x' })).toBe(false)
    expect(await documents(GLOBEX).update('u', { title: 'x' })).toBe(false)
  })

  test.for<[object, string]>([
    [{}, 'change nothing'],
    [{ metadata: undefined }, 'change nothing'],
    [{ metadata: null }, 'metadata is not an object'],
    [{ title: 7 }, 'title is not a string'],
    [{ source: '' }, 'source is empty'],
    [{ title: 'a\0' }, 'zero byte'],
    [{ content: 'x' }, 'unrecognized key: "content"'],
  ])('an update to %o is refused', async ([changes, message]) => {
    await expectError(documents().update('u', changes as never), 'invalid_document', message)
    await expectError(parents().update('u', changes as never), 'invalid_document', message)
  })

  test.for<[string, string]>([
    ['{}', 'are no JSON object with metadata, title or source'],
    ['{"content": "x"}', 'have another key'],
    ['{"metadata": []}', 'have metadata that is no JSON object'],
    ['{"title": 1}', 'have a title that is no text'],
    ['{"title": ""}', 'have a title that is empty'],
  ])('and by the database: %s', async ([changes, message]) => {
    for (const call of ['update_document', 'update_parent']) {
      await expect(
        rowsInTenant(fixture.app, ACME, `select rowhouse.${call}('documents', 'u', '${changes}')`),
      ).rejects.toMatchObject({ code: 'RH024', message: expect.stringContaining(message) })
    }
  })
})

test('promotion and erasure take parents along', async () => {
  await parents().upsert(HANDBOOK)
  await fixture.rowhouse.tenants.promote(ACME)
  expect((await parents().get('handbook'))!.parts).toHaveLength(3)
  await parents().upsert({ ...HANDBOOK, parts: HANDBOOK.parts.slice(0, 2) })
  expect((await parents().get('handbook'))!.parts).toHaveLength(2)
  await fixture.rowhouse.tenants.demote(ACME)
  expect((await parents().get('handbook'))!.parts).toHaveLength(2)
  const receipt = await fixture.rowhouse.tenants.erase(ACME)
  expect(receipt.tables).toMatchObject({ 'rowhouse.parents_documents': 1 })
  expect((await parents(GLOBEX).get('handbook'))!.parts).toHaveLength(3)
})
