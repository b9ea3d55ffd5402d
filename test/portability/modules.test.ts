// What the modules keep of a tenant arrives and works: documents with their vectors, conversations, credentials, budgets,
// the history of tables; also where transactions must prove their tenant.

import { randomBytes } from 'node:crypto'
import { beforeAll, expect, test } from 'vitest'
import { createRowhouse, masterKeysFromEnvironment, type Rowhouse } from '../../src/index.ts'
import { openRowhouse } from '../audit/support.ts'
import { failure } from '../protect/support.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { exportToMemory, streamOf } from './support.ts'

process.env.TEST_MASTER_KEYS = `first:${randomBytes(32).toString('base64')}`
const home = useDatabase()
const away = useDatabase()
const options = { credentials: { keys: masterKeysFromEnvironment('TEST_MASTER_KEYS') } }
let rowhouse: Rowhouse
let awayRowhouse: Rowhouse

beforeAll(async () => {
  rowhouse = openRowhouse(home, options)
  awayRowhouse = openRowhouse(away, options)
  return async () => {
    await rowhouse.close()
    await awayRowhouse.close()
  }
})

test('documents, their parents and vectors of both kinds', needs('pgvector'), async () => {
  const collections = [
    ['full', 'vector'],
    ['half', 'halfvec'],
  ] as const
  for (const at of [rowhouse, awayRowhouse]) {
    for (const [name, elementType] of collections) {
      await at.collections.create(name, { dimensions: 3, metric: 'cosine', elementType })
    }
  }
  await rowhouse.tenants.provision('docs')
  for (const [name] of collections) {
    const documents = rowhouse.tenant('docs').documents(name)
    await documents.upsert([
      { id: 'a', content: 'Refunds take five days.', embedding: [0.1, -2e-5, 3.3333333] },
      { id: 'b', content: 'Leave', embedding: [1, 2, 3], metadata: { year: 2026 } },
    ])
    await documents.parents.upsert({ id: 'p', title: 'P', parts: [{ content: 'part', embedding: [3, 2, 1] }] })
  }
  const { data, receipt } = await exportToMemory(rowhouse, 'docs')
  const imported = await awayRowhouse.tenants.import(streamOf(data), { as: 'docs-2' })
  expect(imported.contentHash).toBe(receipt.contentHash)
  for (const [name] of collections) {
    const found = await Promise.all(
      [rowhouse.tenant('docs'), awayRowhouse.tenant('docs-2')].map(async (tenant) => {
        const hits = await tenant.documents(name).search({ embedding: [0.1, 0, 3], limit: 5 })
        const words = await tenant.documents(name).search({ mode: 'text', text: 'refunds' })
        return [hits.map(({ id, distance }) => [id, distance]), words.map(({ id }) => id)]
      }),
    )
    expect(found[1]).toEqual(found[0])
    expect(found[0]![0]).toHaveLength(3)
    expect(found[0]![1]).toEqual(['a'])
  }
})

test('a collection that is missing is named', needs('pgvector'), async () => {
  await rowhouse.collections.create('only_here', { dimensions: 2, metric: 'l2' })
  await rowhouse.tenants.provision('more')
  await rowhouse
    .tenant('more')
    .documents('only_here')
    .upsert([{ id: 'a', content: 'a', embedding: [1, 2] }])
  const { data } = await exportToMemory(rowhouse, 'more')
  const error = await failure(awayRowhouse.tenants.import(streamOf(data)))
  expect(error.message).toMatch(/collection only_here is missing/)
})

test('conversations, values, budgets and usage', async () => {
  await rowhouse.tenants.provision('busy')
  for (const at of [rowhouse, awayRowhouse]) {
    await at.prices.set('large', { inputTokens: '3.00', outputTokens: '15.00' })
    await at.quotas.define('seats', { metric: 'seats', period: 'total' })
  }
  await rowhouse.quotas.set('busy', 'seats', { limit: 5 })
  const busy = rowhouse.tenant('busy')
  const session = await busy.sessions.create({ userId: 'u' })
  await busy.sessions.append(session.id, [{ role: 'user', content: 'Hello "you"' }])
  await busy.state.set('key', { a: [1, null] })
  await busy.budget.run({ model: 'large', units: { inputTokens: 100, outputTokens: 100 } }, (call) => {
    call.report({ inputTokens: 10, outputTokens: 20 })
    return Promise.resolve()
  })
  const { data, receipt } = await exportToMemory(rowhouse, 'busy')
  await awayRowhouse.tenants.import(streamOf(data))
  expect(await awayRowhouse.tenants.contentHash('busy')).toBe(receipt.contentHash)
  const there = awayRowhouse.tenant('busy')
  expect(await there.sessions.messages(session.id)).toEqual(await busy.sessions.messages(session.id))
  expect(await there.state.get('key')).toEqual({ a: [1, null] })
  expect(await there.budget.checkQuotas()).toEqual(await busy.budget.checkQuotas())
})

test('credentials under the same id, and not under another', async () => {
  await rowhouse.tenants.provision('secretive')
  await rowhouse.tenant('secretive').credentials.set('openai/api-key', 'sk-1')
  const { data } = await exportToMemory(rowhouse, 'secretive')
  await awayRowhouse.tenants.import(streamOf(data))
  const { credentials } = awayRowhouse.tenant('secretive')
  expect((await credentials.get('openai/api-key'))!.reveal()).toBe('sk-1')
  const { leftOut } = await rowhouse.tenants.import(streamOf(data), { as: 'other' })
  expect(leftOut).toMatchObject({ 'rowhouse.credentials': 1, 'rowhouse.credential_keys': 1 })
  expect(await rowhouse.tenant('other').credentials.list()).toEqual([])
  await rowhouse.tenant('other').credentials.set('openai/api-key', 'sk-2')
})

test('an import is no history of its rows', async () => {
  for (const database of [home, away]) {
    const owner = await database.connect('owner')
    await owner.query('create table kept (tenant_id text not null, id int, primary key (tenant_id, id))')
    await owner.query("select rowhouse.protect_table('kept'); select rowhouse.audit_table('kept')")
  }
  await rowhouse.tenants.provision('recorded')
  await rowhouse.withTenant('recorded', (db) =>
    db
      .insertInto('kept')
      .values([{ id: 1 }, { id: 2 }])
      .execute(),
  )
  const { data } = await exportToMemory(rowhouse, 'recorded')
  await awayRowhouse.tenants.import(streamOf(data))
  const entries = await awayRowhouse.tenant('recorded').audit.query({ action: 'rowhouse.row.*' })
  expect(entries).toHaveLength(2)
  expect((await awayRowhouse.auditLog.verify('recorded')).intact).toBe(true)
})

test('where transactions must prove their tenant', async () => {
  const key = randomBytes(32)
  const owning = createRowhouse({ connectionString: home.url('owner'), seal: key, allowPrivilegedLogin: true })
  try {
    await owning.tenants.provision('sealed')
    await owning.seals.addKey(key)
    await owning.seals.require(true)
    await owning.tenant('sealed').state.set('key', 1)
    const { data, receipt } = await exportToMemory(owning, 'sealed')
    const imported = await owning.tenants.import(streamOf(data), { as: 'sealed-2' })
    expect(imported.contentHash).toBe(receipt.contentHash)
    expect(await owning.tenant('sealed-2').state.get('key')).toBe(1)
  } finally {
    await owning.seals.require(false)
    await owning.close()
  }
})
