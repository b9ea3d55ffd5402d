// One interface over stores that know nothing of tenants and over the sessions in Postgres: whatever the store, a tenant
// finds what it stored and nothing else.
import { DatabaseSync } from 'node:sqlite'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  NoTenantContextError,
  type SessionStore,
  TenantMismatchError,
  TenantScopedSessionStore,
  type UnscopedSessionStore,
} from '../../src/index.ts'
import { expectError } from '../documents/fixture.ts'
import { useDatabase } from '../setup/database.ts'
import { ACME, GLOBEX, useSessions } from './fixture.ts'

const database = useDatabase()
const fixture = useSessions(database)

interface Data {
  readonly note: string
}

/** As a client of Redis: strings only, `del` with a count, `keys` with a pattern. */
class RedisLike implements UnscopedSessionStore<Data> {
  readonly data = new Map<string, string>()
  get = async (id: string) => JSON.parse(this.data.get(id) ?? 'null') as Data | null
  set = async (id: string, session: Data) => {
    this.data.set(id, JSON.stringify(session))
    return 'OK'
  }
  del = async (id: string) => (this.data.delete(id) ? 1 : 0)
  keys = async (pattern: string) => {
    const expression = new RegExp(`^${pattern.replaceAll('*', '.*')}$`, 's')
    return [...this.data.keys()].filter((key) => expression.test(key))
  }
}

/** A table of SQLite behind functions that return nothing of use. */
class SqliteLike implements UnscopedSessionStore<Data> {
  readonly #db = new DatabaseSync(':memory:')
  constructor() {
    this.#db.exec('create table sessions (id text primary key, data text not null)')
  }
  get(id: string) {
    const row = this.#db.prepare('select data from sessions where id = ?').get(id)
    return row && (JSON.parse(row.data as string) as Data)
  }
  set(id: string, session: Data) {
    this.#db.prepare('insert or replace into sessions values (?, ?)').run(id, JSON.stringify(session))
  }
  create(id: string, session: Data) {
    this.#db.prepare('insert into sessions values (?, ?)').run(id, JSON.stringify(session))
  }
  delete(id: string) {
    this.#db.prepare('delete from sessions where id = ?').run(id)
  }
  /** Gives more than was asked for: the prefix is the business of the wrapper. */
  *list() {
    for (const { id } of this.#db.prepare('select id from sessions').iterate()) yield id as string
  }
}

type Stores = () => (tenantId: string) => SessionStore<Data>
const STORES: Record<string, Stores> = {
  Map: () => scoped(new Map<string, Data>()),
  'a store like Redis': () => scoped(new RedisLike()),
  'a store like SQLite': () => scoped(new SqliteLike()),
  Postgres: () => (tenantId) => fixture.rowhouse.tenant(tenantId).sessions.asStore<Data>(),
}

function scoped(shared: UnscopedSessionStore<Data>): (tenantId: string) => SessionStore<Data> {
  return (tenantId) => new TenantScopedSessionStore(shared, { tenantId })
}

// Ids that try to leave the tenant, and one with the shape of an id of ours.
const id = fc.constantFrom(
  'a',
  'b',
  `${GLOBEX}:a`,
  `${ACME}:a`,
  ':',
  '*',
  'a\nb',
  '6f3a9c1e-0000-4000-8000-000000000000',
)
const step = fc.record({
  tenant: fc.constantFrom(ACME, GLOBEX),
  action: fc.constantFrom('set', 'set', 'get', 'delete', 'create'),
  id,
  note: fc.string({ maxLength: 4, unit: fc.constantFrom('x', 'ü', '"') }),
})

describe.each(Object.entries(STORES))('%s', (_name, open) => {
  test('a tenant lives as if it were alone', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 20 }), async (steps) => {
        const storeOf = open()
        const models: Record<string, Map<string, Data>> = { [ACME]: new Map(), [GLOBEX]: new Map() }
        for (const tenantId of [ACME, GLOBEX]) {
          for (const { id } of await storeOf(tenantId).list()) await storeOf(tenantId).delete(id)
        }
        for (const { tenant, action, id, note } of steps) {
          const store = storeOf(tenant)
          const model = models[tenant]!
          if (action === 'set') {
            await store.set(id, { note })
            model.set(id, { note })
          } else if (action === 'create') {
            model.set(await store.create({ note }), { note })
          } else if (action === 'delete') {
            expect(await store.delete(id)).toBe(model.delete(id))
          } else {
            expect(await store.get(id)).toEqual(model.get(id))
          }
        }
        for (const tenantId of [ACME, GLOBEX]) {
          const listed = await storeOf(tenantId).list()
          expect(new Map(listed.map(({ id, session }) => [id, session]))).toEqual(models[tenantId])
          expect(listed).toHaveLength(models[tenantId]!.size)
        }
      }),
      { numRuns: 25 },
    )
  }, 120_000)

  test('ids of create are random', async () => {
    const store = open()(ACME)
    const ids = new Set(await Promise.all(Array.from({ length: 10 }, () => store.create({ note: '' }))))
    expect(ids.size).toBe(10)
    for (const id of ids) expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  })
})

describe('the tenant', () => {
  const store = new TenantScopedSessionStore(new Map<string, Data>())

  test('comes from withTenant', async () => {
    await fixture.rowhouse.withTenant(ACME, () => store.set('a', { note: 'mine' }))
    const seen = (tenantId: string) => fixture.rowhouse.withTenant(tenantId, () => store.get('a'))
    expect(await seen(ACME)).toEqual({ note: 'mine' })
    expect(await seen(GLOBEX)).toBeUndefined()
  })

  test('is never nobody', async () => {
    for (const call of [
      () => store.get('a'),
      () => store.set('a', { note: 'x' }),
      () => store.create({ note: 'x' }),
      () => store.delete('a'),
      () => store.list(),
    ]) {
      await expect(call()).rejects.toBeInstanceOf(NoTenantContextError)
    }
  })

  test('is the same inside and outside', async () => {
    const other = new TenantScopedSessionStore(new Map<string, Data>(), { tenantId: GLOBEX })
    const failure = fixture.rowhouse.withTenant(ACME, () => other.get('a'))
    await expect(failure).rejects.toBeInstanceOf(TenantMismatchError)
  })
})

test('bad input and stores that lack a function', async () => {
  const store = new TenantScopedSessionStore(new Map<string, Data>(), { tenantId: ACME })
  await expectError(store.get(''), 'invalid_argument', 'The id of a session is a string that is not empty')
  await expectError(store.set(7 as never, { note: '' }), 'invalid_argument')
  expect(() => new TenantScopedSessionStore(new Map(), { tenantId: 'a:b' })).toThrow('A tenant id is')
  expect(() => new TenantScopedSessionStore({ get: () => 1, set: () => {} })).toThrow('neither delete nor del')
  const without = new TenantScopedSessionStore({ get: () => 1, set: () => {}, delete: () => {} }, { tenantId: ACME })
  await expectError(without.list(), 'invalid_argument', 'neither list nor keys')
  await expectError(fixture.acme.sessions.asStore().set('', {}), 'invalid_session', 'The id of the session is empty')
})

test('open makes one session of several callers at once, and a new one when the old one is over', async () => {
  const { sessions } = fixture.acme
  const opened = await Promise.all(Array.from({ length: 8 }, () => sessions.open('thread-1')))
  expect(new Set(opened.map(({ id }) => id)).size).toBe(1)
  expect(opened[0]).toMatchObject({ externalId: 'thread-1', messageCount: 0 })
  expect(await sessions.find('thread-1')).toEqual(opened[0])
  expect(await sessions.find(opened[0]!.id)).toEqual(opened[0])
  expect(await fixture.globex.sessions.find('thread-1')).toBeUndefined()
  expect((await fixture.globex.sessions.open('thread-1')).id).not.toBe(opened[0]!.id)
  await sessions.update(opened[0]!.id, { expiresInMs: 1 })
  await new Promise((resolve) => setTimeout(resolve, 5))
  expect(await sessions.find('thread-1')).toBeUndefined()
  const next = await sessions.open('thread-1')
  expect(next.id).not.toBe(opened[0]!.id)
  const fork = await sessions.fork(next.id)
  expect(fork.externalId).toBeNull()
})
