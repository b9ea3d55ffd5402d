import type pg from 'pg'
import { beforeAll, describe, expect, test } from 'vitest'
import { createRowhouse } from '../../src/index.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { openSessions, waitUntilBlocked } from '../setup/sessions.ts'
import { ACME, asOperator, expectError, GLOBEX, provision, randomVectors, useRowhouse } from './fixture.ts'

const database = useDatabase({ needs: ['pgvector'] })
const fixture = useRowhouse(database)
const collections = () => fixture.rowhouse.collections
const documents = (name: string, tenantId = ACME) => fixture.rowhouse.tenant(tenantId).documents(name)
let owner: pg.Client

beforeAll(async () => {
  owner = await database.connect('owner')
})

const rows = async (sql: string, ...values: unknown[]): Promise<any[]> => (await owner.query(sql, values)).rows
const asOwner = async (sql: string) => void (await owner.query(`set role rowhouse_owner; ${sql}; reset role`))
const one = (id = 'x') => [{ id, content: id, embedding: [1, 0, 0] }]

describe('many processes', needs('parallelBackends'), () => {
  test('create the same collections at once: each is made once, everybody gets it', async () => {
    const names = ['boot_a', 'boot_b', 'boot_c']
    const processes = Array.from({ length: 8 }, () =>
      createRowhouse({
        connectionString: database.url('app'),
        admin: { connectionString: database.url('operator'), poolOptions: { max: 1 } },
      }),
    )
    try {
      const made = await Promise.all(
        processes.map(async (rowhouse, index) => {
          const order = index % 2 === 0 ? names : names.toReversed()
          return Promise.all(order.map((name) => rowhouse.collections.create(name, { dimensions: 3 })))
        }),
      )
      for (const name of names) {
        const created = made.flat().filter((collection) => collection.name === name)
        expect(created).toHaveLength(8)
        expect(created.filter((collection) => collection.created)).toHaveLength(1)
        expect(new Set(created.map(({ createdAt }) => createdAt.getTime())).size).toBe(1)
      }
    } finally {
      await Promise.all(processes.map((rowhouse) => rowhouse.close()))
    }
    expect(
      await rows("select from rowhouse.protected_tables where relation::text like '%documents_boot%'"),
    ).toHaveLength(3)
    expect(await rows("select from rowhouse.protected_tables where relation::text like '%parents_boot%'")).toHaveLength(
      3,
    )
  }, 60_000)

  test('with different options at once: one wins, the others are told', async () => {
    const settled = await Promise.allSettled(
      [3, 4, 3, 4].map((dimensions) => collections().create('contested', { dimensions })),
    )
    const won = settled.filter(({ status }) => status === 'fulfilled')
    expect(won).toHaveLength(2)
    for (const outcome of settled) {
      if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'invalid_collection' })
    }
    await collections().drop('contested')
  })
})

describe('while an index is built anew', needs('parallelBackends'), () => {
  test('searches go on, collections are created and found, and writers wait', async () => {
    await collections().create('rebuilt', { dimensions: 3 })
    await documents('rebuilt').upsert(one())
    const sessions = await openSessions(database, { reader: 'app', builder: 'operator', writer: 'app' })
    const inAcme = `begin; set local role rowhouse_app; set local app.tenant_id = '${ACME}'`
    // Keeps the old index in use, so that the new one is ready and the old one can't go yet.
    await sessions.reader.run(inAcme)
    await sessions.reader.run("select * from rowhouse.search_documents('rebuilt', '[1,0,0]')")
    await sessions.builder.run('begin; set local role rowhouse_admin')
    const building = sessions.builder.run("select rowhouse.index_collection('rebuilt', 8, 32)")
    await waitUntilBlocked(sessions.builder)

    for (const strategy of ['exact', 'index'] as const) {
      expect(await documents('rebuilt').search({ embedding: [1, 0, 0], strategy, limit: 1 })).toHaveLength(1)
    }
    expect(await collections().create('rebuilt', { dimensions: 3 })).toMatchObject({ created: false, m: 16 })
    expect(await collections().create('meanwhile', { dimensions: 3 })).toMatchObject({ created: true })
    await sessions.writer.run(inAcme)
    const writing = sessions.writer.run(
      "select rowhouse.upsert_documents('rebuilt', array['y'], array['y'], array['[0,1,0]'])",
    )
    await waitUntilBlocked(sessions.writer)

    await sessions.reader.run('commit')
    await building
    // The control: what a search would have waited for, had the old index gone first.
    await sessions.reader.run(inAcme)
    const searching = sessions.reader.run("select * from rowhouse.search_documents('rebuilt', '[1,0,0]')")
    await waitUntilBlocked(sessions.reader)
    await sessions.builder.run('commit')
    await searching
    await sessions.reader.run('commit')
    await writing
    await sessions.writer.run('commit')
    expect(await collections().create('rebuilt', { dimensions: 3 })).toMatchObject({ m: 8, indexed: true })
    const hnsw = await rows(
      `select from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am a on a.oid = c.relam
        where a.amname = 'hnsw' and i.indrelid in (select relid from pg_partition_tree('rowhouse.documents_rebuilt'))`,
    )
    expect(hnsw).toHaveLength(18)
    expect(await documents('rebuilt').search({ embedding: [0, 1, 0], strategy: 'index', limit: 2 })).toMatchObject([
      { id: 'y', strategy: 'shared_index' },
      { id: 'x' },
    ])
    await collections().drop('meanwhile')
  }, 60_000)

  test('a build that fails leaves the old index and its settings', async () => {
    const before = await collections().create('rebuilt', { dimensions: 3 })
    const operator = await database.connect('operator')
    await operator.query('begin; set local role rowhouse_admin')
    await operator.query("select rowhouse.index_collection('rebuilt', 30, 60)")
    await operator.query('rollback')
    expect(await collections().create('rebuilt', { dimensions: 3 })).toEqual(before)
    expect(await documents('rebuilt').search({ embedding: [1, 0, 0], strategy: 'index', limit: 1 })).toMatchObject([
      { strategy: 'shared_index' },
    ])
  })
})

describe('tables', () => {
  test('embeddings stay in their rows, in every partition', async () => {
    await collections().create('inline', { dimensions: 3 })
    await fixture.rowhouse.tenants.promote(GLOBEX)
    const stored = await rows(
      `select t.isleaf, a.attname, a.attstorage from pg_partition_tree('rowhouse.documents_inline') t
        join pg_attribute a on a.attrelid = t.relid and a.attname in ('embedding', 'metadata', 'tenant_id', 'document_id')`,
    )
    expect(stored.filter(({ isleaf }) => isleaf)).toHaveLength(17 * 4)
    expect(new Set(stored.map(({ attstorage }) => attstorage))).toEqual(new Set(['m']))
    await fixture.rowhouse.tenants.demote(GLOBEX)
  })

  test('one that was dropped by hand is not found', async () => {
    await collections().create('gone', { dimensions: 3 })
    await asOwner('drop table rowhouse.documents_gone')
    for (const call of [
      () => documents('gone').upsert(one()),
      () => documents('gone').search({ embedding: [1, 0, 0] }),
      () => documents('gone').count(),
      () => collections().index('gone', { m: 8 }),
    ]) {
      await expectError(call(), 'collection_not_found', 'collection "gone" does not exist')
    }
    await collections().drop('gone')
    expect((await collections().list()).map(({ name }) => name)).not.toContain('gone')
  })

  test('one that was renamed is still the one that is searched and dropped', async () => {
    await collections().create('renamed', { dimensions: 3 })
    await asOwner(
      'alter table rowhouse.documents_renamed rename to documents_other; create table rowhouse.documents_renamed (id int)',
    )
    await documents('renamed').upsert(one())
    expect(await documents('renamed').search({ embedding: [1, 0, 0] })).toHaveLength(1)
    await collections().drop('renamed')
    expect(await rows("select to_regclass('rowhouse.documents_other') as old")).toEqual([{ old: null }])
    expect((await rows("select to_regclass('rowhouse.documents_renamed') as other"))[0].other).not.toBeNull()
    await asOwner('drop table rowhouse.documents_renamed')
  })
})

describe('promoted tenants', () => {
  const vectors = randomVectors(21, 300, 3)
  const many = vectors.map((embedding, index) => ({ id: `d${index}`, content: `document ${index}`, embedding }))

  beforeAll(async () => {
    const operator = await database.connect('operator')
    for (const tenantId of ['grown', 'neighbour']) await provision(operator, tenantId)
    await collections().create('before', { dimensions: 3, exactLimit: 50 })
    await documents('before', 'grown').upsert(many.slice(0, 100))
    await documents('before', 'neighbour').upsert(many.slice(0, 100))
    await fixture.rowhouse.tenants.promote('grown')
  })

  test('documents written later are in the index of their own', async () => {
    const own = documents('before', 'grown')
    await own.upsert(many.slice(100))
    // Replaced: at its new position, and not at its old one.
    await own.upsert([{ id: 'd150', content: 'moved', embedding: vectors[7]! }])
    await own.delete(['d7', 'd200'])
    const [first] = await own.search({ embedding: vectors[7]!, limit: 5 })
    expect(first).toMatchObject({ id: 'd150', content: 'moved', strategy: 'own_index' })
    const all = await own.search({ embedding: vectors[200]!, limit: 298 })
    expect(all).toHaveLength(298)
    expect(new Set(all.map(({ id }) => id)).size).toBe(298)
    expect(all.map(({ id }) => id)).not.toContain('d200')
    expect(await documents('before', 'neighbour').get('d7')).toBeDefined()
    expect(await documents('before', 'neighbour').count()).toBe(100)
  })

  test('a collection that comes later holds their documents in a shared partition until they are promoted again', async () => {
    await collections().create('after', { dimensions: 3, exactLimit: 50 })
    await documents('after', 'grown').upsert(many)
    const search = () => documents('after', 'grown').search({ embedding: vectors[3]!, limit: 1 })
    expect(await search()).toMatchObject([{ id: 'd3', strategy: 'shared_index' }])
    await fixture.rowhouse.tenants.promote('grown')
    expect(await search()).toMatchObject([{ id: 'd3', strategy: 'own_index' }])
  })

  test('an index that is built after the promotion is theirs too', async () => {
    await collections().create('late', { dimensions: 3, exactLimit: 50, index: false })
    await documents('late', 'grown').upsert(many)
    await fixture.rowhouse.tenants.promote('grown')
    const search = () => documents('late', 'grown').search({ embedding: vectors[3]!, limit: 1 })
    expect(await search()).toMatchObject([{ id: 'd3', strategy: 'exact' }])
    await collections().index('late')
    expect(await search()).toMatchObject([{ id: 'd3', strategy: 'own_index' }])
  })

  test('a collection is dropped with their partitions of it, and erasure takes the rest', async () => {
    await collections().drop('after')
    const receipt = await fixture.rowhouse.tenants.erase('grown')
    expect(receipt.tables).toMatchObject({ 'rowhouse.documents_before': 298, 'rowhouse.documents_late': 300 })
    expect(receipt.tables).not.toHaveProperty('rowhouse.documents_after')
    expect(await rows("select nspname from pg_namespace where nspname ~ '^rowhouse_p[0-9a-f]{16}$'")).toEqual([])
    expect(await documents('before', 'neighbour').count()).toBe(100)
    expect(await documents('before', 'neighbour').search({ embedding: vectors[3]!, limit: 1 })).toMatchObject([
      { id: 'd3', strategy: 'shared_index' },
    ])
  })
})

test('the table of a collection is registered, so that it can not be forgotten', async () => {
  const unregistered = await rows(
    `select c.name from rowhouse.collections c
      where not exists (select from rowhouse.protected_tables p where p.relation = c.relation and p.layout = 'partitioned')`,
  )
  expect(unregistered).toEqual([])
  const operator = await database.connect('operator')
  await expect(asOperator(operator, 'select * from rowhouse.documents_before')).rejects.toMatchObject({ code: '42501' })
})
