// Changing the embedding model while searches and writes go on: none fails, and none mixes the models.
import type pg from 'pg'
import { beforeAll, describe, expect, test } from 'vitest'
import { createRowhouse, type EmbedFunction } from '../../src/index.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { ACME, asOperator, expectError, GLOBEX, useRowhouse } from './fixture.ts'

const database = useDatabase({ needs: ['pgvector'] })
const fixture = useRowhouse(database)
const collections = () => fixture.rowhouse.collections
let operator: pg.Client

/** Two models that disagree about everything: where one sees a number, the other sees its opposite. */
const embedOld: EmbedFunction = async (texts) =>
  texts.map((text) => [Math.cos(numberOf(text)), Math.sin(numberOf(text))])
const embedNew: EmbedFunction = async (texts) =>
  texts.map((text) => [Math.sin(numberOf(text)), Math.cos(numberOf(text)), numberOf(text)])
const numberOf = (text: string) => Number(/\d+/.exec(text)![0]) / 100
const OLD = { model: 'old', embed: embedOld }
const NEW = { model: 'new', embed: embedNew }
const CHANGE = { ...NEW, dimensions: 3 }

const byOld = (name: string, tenantId = ACME) => fixture.rowhouse.tenant(tenantId).documents(name, OLD)
const byNew = (name: string, tenantId = ACME) => fixture.rowhouse.tenant(tenantId).documents(name, NEW)
const byBoth = (name: string, tenantId = ACME) =>
  fixture.rowhouse.tenant(tenantId).documents(name, { ...OLD, otherModel: NEW })

const numbers = (from: number, count: number) =>
  Array.from({ length: count }, (_, index) => ({ id: `n${from + index}`, content: `number ${from + index}` }))

async function createFilled(name: string, count = 50) {
  await collections().create(name, { dimensions: 2, model: 'old' })
  for (const tenantId of [ACME, GLOBEX]) await byOld(name, tenantId).upsert(numbers(0, count))
}

beforeAll(async () => {
  operator = await database.connect('operator')
})

describe('a change', () => {
  test('fills every tenant, switches, and leaves the old version until it is finished', async () => {
    await createFilled('docs')
    await fixture.rowhouse.tenants.suspend(GLOBEX)
    const progress: number[] = []
    await collections().changeModel('docs', {
      ...CHANGE,
      batchSize: 20,
      onProgress: ({ documents }) => progress.push(documents),
    })
    await fixture.rowhouse.tenants.resume(GLOBEX)
    expect(progress.at(-1)).toBe(100)
    const [changed] = (await collections().list()).filter(({ name }) => name === 'docs')
    expect(changed).toMatchObject({
      model: 'new',
      dimensions: 3,
      version: 2,
      indexed: true,
      change: { state: 'previous', model: 'old' },
    })
    for (const tenantId of [ACME, GLOBEX]) {
      expect((await byNew('docs', tenantId).search({ text: 'number 7', limit: 1 }))[0]).toMatchObject({
        id: 'n7',
        tenantId,
      })
      expect((await byOld('docs', tenantId).search({ text: 'number 7', limit: 1 }))[0]).toMatchObject({
        id: 'n7',
        tenantId,
      })
    }
    await expectError(
      collections().changeModel('docs', { ...CHANGE, model: 'third' }),
      'invalid_collection',
      'is not finished',
    )
    expect(await collections().finishModelChange('docs')).toMatchObject({
      change: null,
      table: 'rowhouse.documents_docs',
    })
    await expectError(
      byOld('docs').search({ text: 'number 7' }),
      'other_model',
      'embeddings of the model "new", not of "old"',
    )
    await expectError(byOld('docs').upsert(numbers(0, 1)), 'other_model')
    expect(await byNew('docs').count()).toBe(50)
    await expectError(collections().finishModelChange('docs'), 'invalid_collection', 'no version of a previous model')
    await expectError(collections().finishModelChange('nowhere'), 'collection_not_found')
  })

  test('goes on where it was ended', async () => {
    await createFilled('resumed')
    const stop = new AbortController()
    let embedded = 0
    const embed: EmbedFunction = async (texts) => {
      embedded += texts.length
      return embedNew(texts)
    }
    const change = collections().changeModel('resumed', {
      ...CHANGE,
      embed,
      batchSize: 10,
      signal: stop.signal,
      onProgress: ({ documents }) => documents >= 30 && stop.abort(),
    })
    await expect(change).rejects.toThrow(/abort/)
    expect(embedded).toBe(30)
    expect((await collections().list()).find(({ name }) => name === 'resumed')).toMatchObject({
      model: 'old',
      change: { state: 'next', model: 'new' },
    })
    await expectError(
      collections().changeModel('resumed', { ...CHANGE, model: 'third' }),
      'invalid_collection',
      'being changed to',
    )
    await collections().changeModel('resumed', { ...CHANGE, embed, batchSize: 10 })
    expect(embedded).toBe(100)
    await collections().finishModelChange('resumed')
  })

  test('needs names: of the model that the collection has, and from the switch on of the model of each embedding', async () => {
    await collections().create('unnamed', { dimensions: 2 })
    const unnamed = () => fixture.rowhouse.tenant(ACME).documents('unnamed', { embed: embedOld })
    await byOld('unnamed').upsert(numbers(0, 2))
    await byBoth('unnamed').upsert(numbers(1, 1))
    await unnamed().upsert(numbers(2, 1))
    await expectError(collections().changeModel('unnamed', CHANGE), 'invalid_collection', 'does not say which model')
    await collections().configure('unnamed', { model: 'old' })
    await expectError(collections().configure('unnamed', { model: 'x' }), 'invalid_collection', 'another model')
    await collections().changeModel('unnamed', CHANGE)
    await expectError(unnamed().search({ text: 'number 1' }), 'other_model', 'two models')
    await expectError(unnamed().upsert(numbers(1, 1)), 'other_model', 'two models')
    expect(await unnamed().search({ mode: 'text', text: 'number' })).toHaveLength(3)
    expect(await unnamed().update('n1', { title: 'x' })).toBe(true)
    expect(await unnamed().delete('n2')).toBe(1)
    await collections().finishModelChange('unnamed')
  })

  test('is given up', async () => {
    await createFilled('kept', 5)
    await asOperator(operator, "select rowhouse.begin_model_change('kept', 'new', 3)")
    expect(await collections().abandonModelChange('kept')).toMatchObject({ model: 'old', change: null, version: 1 })
    expect(await byOld('kept').search({ text: 'number 1' })).toHaveLength(5)
    await expectError(collections().changeModel('kept', OLD), 'invalid_collection', 'has the model "old" already')
    await collections().changeModel('kept', CHANGE)
    await collections().drop('kept')
    expect(
      await asOperator(
        operator,
        "select relname from pg_class where relname like 'documents_kept%' or relname like 'parents_kept%'",
      ),
    ).toEqual([])
  })

  test('does not switch while a document or the index is missing', async () => {
    await createFilled('early', 3)
    await asOperator(operator, "select rowhouse.begin_model_change('early', 'new', 3)")
    const turn = () => asOperator(operator, "select rowhouse.switch_model('early')")
    await expect(turn()).rejects.toMatchObject({ code: 'RH027', message: expect.stringContaining('6 documents') })
    for (const tenantId of [ACME, GLOBEX]) {
      await asOperator(
        operator,
        `select rowhouse.fill_documents('early', $1, array['n0', 'n1', 'n2'], array['number 0', 'number 1', 'number 2'], array['[1,0,0]', '[0,1,0]', '[0,0,1]'])`,
        tenantId,
      )
    }
    await expect(turn()).rejects.toMatchObject({ code: 'RH027', message: expect.stringContaining('no index') })
    await collections().drop('early')
  })
})

describe('while a change goes on', () => {
  beforeAll(async () => {
    await createFilled('live', 10)
    await asOperator(operator, "select rowhouse.begin_model_change('live', 'new', 3)")
  })
  const missing = async (tenantId = ACME) =>
    (await asOperator(operator, "select document_id from rowhouse.unembedded_documents('live', $1)", tenantId)).map(
      (row) => row.document_id,
    )
  const fill = (ids: string[], contents: string[], tenantId = ACME) =>
    asOperator(
      operator,
      "select rowhouse.fill_documents('live', $1, $2, $3, $4) as written",
      tenantId,
      ids,
      contents,
      ids.map(() => '[1,0,0]'),
    )

  test('searches know the old version alone', async () => {
    await fill(['n1'], ['number 1'])
    expect(await byOld('live').search({ text: 'number 1', limit: 50 })).toHaveLength(10)
    await expectError(byNew('live').search({ text: 'number 1' }), 'other_model')
    const hits = await byBoth('live').search({ text: 'number 1', limit: 50 })
    expect(hits).toHaveLength(10)
    const reversed = fixture.rowhouse.tenant(ACME).documents('live', { ...NEW, otherModel: OLD })
    expect(await reversed.search({ text: 'number 1', limit: 50 })).toEqual(hits)
    const inside = await fixture.rowhouse.withTenant(ACME, (_db, tenant) =>
      tenant.documents('live', { ...NEW, otherModel: OLD }).search({ text: 'number 1', limit: 50 }),
    )
    expect(inside).toEqual(hits)
  })

  test('a document written with both embeddings needs no filling in, one with the old alone does', async () => {
    await byBoth('live').upsert([{ id: 'both', content: 'number 30' }])
    await byOld('live').upsert([{ id: 'alone', content: 'number 31' }])
    expect(await missing()).toEqual(['alone', 'n0', 'n2', 'n3', 'n4', 'n5', 'n6', 'n7', 'n8', 'n9'])
    await byOld('live').upsert([{ id: 'both', content: 'number 32' }])
    expect(await missing()).toContain('both')
    await byBoth('live').upsert([{ id: 'both', content: 'number 32' }])
    expect(await missing()).not.toContain('both')
    await expectError(byNew('live').upsert([{ id: 'x', content: 'number 1' }]), 'other_model')
    const parents = await byBoth('live').parents.upsert({
      id: 'p',
      parts: [{ content: 'number 40' }, { content: 'number 41' }],
    })
    expect(parents.parts).toEqual(['p#1', 'p#2'])
    expect(await missing()).not.toContain('p#1')
  })

  test('changes and deletes reach both versions', async () => {
    await byOld('live').update('both', { metadata: { seen: true }, title: 'T' })
    await byOld('live').parents.update('p', { source: 'book' })
    await byOld('live').delete('n1')
    await byOld('live').deleteWhere({ $id: 'p#2' })
    const { rows } = await (await database.connect('owner'))
      .query(
        `begin; set local role rowhouse_owner; set local app.tenant_id = 'acme';
        select document_id, title, source, metadata, parent_id from rowhouse."documents_live$2" order by 1; commit`,
      )
      .then((results) => (results as unknown as { rows: unknown[] }[])[3]!)
    expect(rows).toEqual([
      { document_id: 'both', title: 'T', source: null, metadata: { seen: true }, parent_id: null },
      { document_id: 'p#1', title: null, source: 'book', metadata: {}, parent_id: 'p' },
    ])
    await byOld('live').parents.delete('p')
    expect(await byOld('live').get('p#1')).toBeUndefined()
  })

  test('an embedding of a content that has changed meanwhile is not written', async () => {
    expect(await fill(['n2', 'n3', 'gone'], ['number 2', 'number 999', 'x'])).toEqual([{ written: '1' }])
    expect(await missing()).toContain('n3')
  })

  test('a bad embedding is refused with its document', async () => {
    const bad = asOperator(
      operator,
      "select rowhouse.fill_documents('live', 'acme', array['n4'], array['number 4'], array['[1,2]'])",
    )
    await expect(bad).rejects.toMatchObject({
      code: 'RH023',
      message: expect.stringContaining('document "n4" is invalid'),
    })
  })

  test('erasing a tenant takes both versions', async () => {
    await fill(['n1'], ['number 1'], GLOBEX)
    await fixture.rowhouse.tenants.erase(GLOBEX)
    await asOperator(operator, "select rowhouse.provision_tenant('third')")
    await collections().changeModel('live', CHANGE)
    expect(await byNew('live').count()).toBe(11)
    await collections().finishModelChange('live')
  })
})

test('searches and writes during the change: none fails, none mixes models', {
  ...needs('parallelBackends'),
  timeout: 120_000,
}, async () => {
  await collections().create('busy', { dimensions: 2, model: 'old' })
  await byOld('busy').upsert(numbers(0, 200))
  // A process that knows both models, as deployed before the change.
  const process = createRowhouse({ pool: database.pool('app', { max: 6 }) })
  const busy = process.tenant(ACME).documents('busy', { ...OLD, otherModel: NEW })
  let running = true
  const counts = { searches: 0, writes: 0 }
  const search = async () => {
    while (running) {
      const wanted = Math.floor(Math.random() * 200)
      const [hit] = await busy.search({ text: `number ${wanted}`, limit: 1 })
      // With the embedding of one model among those of the other, another number would be the nearest.
      expect(hit).toMatchObject({ id: `n${wanted}`, distance: expect.closeTo(0, 5) })
      counts.searches++
    }
  }
  const write = async (first: number) => {
    for (let number = first; running; number += 2) {
      await busy.upsert([{ id: `n${number}`, content: `number ${number}` }])
      await busy.delete(`n${number}`)
      await busy.upsert([{ id: `n${number % 200}`, content: `number ${number % 200}` }])
      counts.writes++
    }
  }
  const work = Promise.allSettled([search(), search(), search(), write(1000), write(1001)])
  try {
    await collections().changeModel('busy', { ...CHANGE, batchSize: 25 })
    const atSwitch = { ...counts }
    await expect.poll(() => counts.searches, { timeout: 10_000 }).toBeGreaterThan(atSwitch.searches + 20)
    await collections().finishModelChange('busy')
    const atFinish = { ...counts }
    await expect.poll(() => counts.searches, { timeout: 10_000 }).toBeGreaterThan(atFinish.searches + 20)
    running = false
    expect((await work).filter(({ status }) => status === 'rejected')).toEqual([])
    expect(counts.writes).toBeGreaterThan(5)
  } finally {
    running = false
    await work
    await process.close()
  }
})
