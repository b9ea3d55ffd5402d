import { describe, expect, test } from 'vitest'
import { expectError } from '../documents/fixture.ts'
import { useDatabase } from '../setup/database.ts'
import { ACME, say, useSessions } from './fixture.ts'

const database = useDatabase()
const fixture = useSessions(database)
const UNKNOWN = '6f3a9c1e-0000-4000-8000-000000000000'

describe('create and get', () => {
  test('gives back what was given', async () => {
    const created = await fixture.acme.sessions.create({
      userId: 'u_1',
      agentId: 'support',
      metadata: { channel: 'web', deep: { list: [1, 'ü', null] } },
      providers: ['anthropic', 'tools.example.com'],
      expiresInMs: 60_000,
    })
    expect(created).toMatchObject({
      tenantId: ACME,
      userId: 'u_1',
      agentId: 'support',
      metadata: { channel: 'web', deep: { list: [1, 'ü', null] } },
      providers: ['anthropic', 'tools.example.com'],
      messageCount: 0,
      tokenCount: 0,
      forkedFrom: null,
    })
    expect(created.expiresAt!.getTime() - created.createdAt.getTime()).toBeGreaterThan(59_000)
    expect(await fixture.acme.sessions.get(created.id)).toEqual(created)
    expect(await fixture.acme.sessions.get(created.id.toUpperCase())).toEqual(created)
  })

  test('a session with a list of providers may use those, and one without all', async () => {
    const { sessions } = fixture.acme
    const limited = await sessions.create({ providers: ['anthropic', 'tools.example.com'] })
    const nothing = await sessions.create({ providers: [] })
    const open = await sessions.create()
    await sessions.assertProvider(limited.id, 'tools.example.com')
    await sessions.assertProvider(open.id, 'whatever')
    for (const [id, provider] of [
      [limited.id, 'Anthropic'],
      [limited.id, 'anthropic.evil.example'],
      [nothing.id, 'anthropic'],
    ] as const) {
      await expectError(sessions.assertProvider(id, provider), 'provider_not_allowed')
    }
    await sessions.update(limited.id, { providers: ['openai'] })
    await expectError(sessions.assertProvider(limited.id, 'anthropic'), 'provider_not_allowed')
    await sessions.assertProvider(limited.id, 'openai')
    await sessions.assertProvider((await sessions.fork(open.id)).id, 'whatever')
    await expectError(sessions.assertProvider(UNKNOWN, 'openai'), 'session_not_found')
    await expectError(fixture.globex.sessions.assertProvider(limited.id, 'openai'), 'session_not_found')
    await expectError(sessions.assertProvider(limited.id, ''), 'invalid_session')
  })

  test('needs nothing', async () => {
    expect(await fixture.acme.sessions.create()).toMatchObject({
      userId: null,
      agentId: null,
      metadata: {},
      providers: null,
      expiresAt: null,
    })
  })

  test('belongs to the user of the context unless it names another', async () => {
    const { sessions } = fixture.rowhouse.tenant(ACME, { userId: 'u_7' })
    expect(await sessions.create()).toMatchObject({ userId: 'u_7' })
    expect(await sessions.create({ userId: 'u_8' })).toMatchObject({ userId: 'u_8' })
  })

  test('ids are random', async () => {
    const ids = await Promise.all(Array.from({ length: 20 }, async () => (await fixture.acme.sessions.create()).id))
    // The version of the UUID that consists of 122 random bits.
    for (const id of ids) expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
    expect(new Set(ids.map((id) => id.slice(0, 4))).size).toBeGreaterThan(10)
  })

  test('undefined for an id that does not exist', async () => {
    expect(await fixture.acme.sessions.get(UNKNOWN)).toBeUndefined()
  })

  test('joins the transaction of withTenant', async () => {
    let id = ''
    const failure = fixture.rowhouse.withTenant(ACME, async (_db, tenant) => {
      id = (await tenant.sessions.create()).id
      await tenant.sessions.append(id, [say('hello')])
      expect(await tenant.sessions.get(id)).toMatchObject({ messageCount: 1 })
      throw new Error('no')
    })
    await expect(failure).rejects.toThrow('no')
    expect(await fixture.acme.sessions.get(id)).toBeUndefined()
  })
})

describe('update and touch', () => {
  test('changes what is named and nothing else', async () => {
    const { sessions } = fixture.acme
    const before = await sessions.create({ userId: 'u_1', agentId: 'a', metadata: { a: 1 }, providers: ['x'] })
    const after = await sessions.update(before.id, { metadata: { b: 2 } })
    expect(after).toEqual({ ...before, metadata: { b: 2 }, updatedAt: after.updatedAt })
    expect(after.updatedAt.getTime()).toBeGreaterThanOrEqual(before.updatedAt.getTime())
    const cleared = await sessions.update(before.id, { userId: null, agentId: 'b', providers: null, expiresInMs: 1000 })
    expect(cleared).toMatchObject({ userId: null, agentId: 'b', providers: null, metadata: { b: 2 } })
    expect(cleared.expiresAt).toBeInstanceOf(Date)
    expect(await sessions.update(before.id, { expiresInMs: null })).toMatchObject({ expiresAt: null })
    expect(await sessions.get(before.id)).toMatchObject({ agentId: 'b', expiresAt: null })
  })

  test('touch marks it as used and may set an expiry', async () => {
    const { sessions } = fixture.acme
    const before = await sessions.create()
    const touched = await sessions.touch(before.id)
    expect(touched.updatedAt.getTime()).toBeGreaterThanOrEqual(before.updatedAt.getTime())
    expect(touched.expiresAt).toBeNull()
    expect((await sessions.touch(before.id, { expiresInMs: 5000 })).expiresAt).toBeInstanceOf(Date)
  })

  test('fail for an id that does not exist', async () => {
    await expectError(fixture.acme.sessions.update(UNKNOWN, {}), 'session_not_found', 'does not exist')
    const error = await expectError(fixture.acme.sessions.touch(UNKNOWN), 'session_not_found')
    expect(error.httpStatus).toBe(404)
  })
})

test('delete takes the messages along and says whether there was anything', async () => {
  const { sessions } = fixture.acme
  const { id } = await sessions.create()
  await sessions.append(id, [say('a'), say('b')])
  expect(await sessions.delete(id)).toBe(true)
  expect(await sessions.delete(id)).toBe(false)
  expect(await sessions.get(id)).toBeUndefined()
  const left = await fixture.rowhouse.query(ACME, (db) =>
    db
      .selectFrom('rowhouse.messages' as never)
      .selectAll()
      .where('session_id' as never, '=', id as never),
  )
  expect(left).toEqual([])
})

describe('list', () => {
  test('pages through all of them, those used last first', async () => {
    const { sessions } = fixture.acme
    const ids: string[] = []
    for (let number = 0; number < 7; number++) ids.push((await sessions.create({ userId: 'pages' })).id)
    await sessions.touch(ids[2]!)
    const expected = [2, 6, 5, 4, 3, 1, 0].map((index) => ids[index])
    const found: string[] = []
    let cursor: string | undefined
    let pages = 0
    do {
      const page = await sessions.list({ userId: 'pages', limit: 3, cursor })
      found.push(...page.sessions.map(({ id }) => id))
      cursor = page.nextCursor
      pages++
    } while (cursor !== undefined)
    expect(found).toEqual(expected)
    expect(pages).toBe(3)
  })

  test('by user and by agent', async () => {
    const { sessions } = fixture.acme
    const one = await sessions.create({ userId: 'list_1', agentId: 'x' })
    const two = await sessions.create({ userId: 'list_1', agentId: 'y' })
    await sessions.create({ userId: 'list_2', agentId: 'x' })
    const list = async (options: object) => (await sessions.list(options)).sessions.map(({ id }) => id)
    expect(await list({ userId: 'list_1' })).toEqual([two.id, one.id])
    expect(await list({ userId: 'list_1', agentId: 'x' })).toEqual([one.id])
    expect(await list({ userId: 'list_3' })).toEqual([])
  })
})

describe('fork', () => {
  test('begins as a copy and goes its own way', async () => {
    const { sessions } = fixture.acme
    const original = await sessions.create({ userId: 'u_1', agentId: 'a', metadata: { a: 1 }, providers: ['x'] })
    const { ids } = await sessions.append(original.id, [say('one', 1), say('two', 2), say('three', 3)])
    const fork = await sessions.fork(original.id, { until: ids[1] })
    expect(fork).toMatchObject({
      userId: 'u_1',
      agentId: 'a',
      metadata: { a: 1 },
      providers: ['x'],
      forkedFrom: original.id,
      messageCount: 2,
      tokenCount: 3,
    })
    expect(fork.id).not.toBe(original.id)
    expect(await sessions.get(fork.id)).toEqual(fork)
    await sessions.append(fork.id, [say('other', 4)], { expectedLength: 2 })
    const contents = async (id: string) => (await sessions.messages(id)).messages.map(({ content }) => content[0]!.text)
    expect(await contents(fork.id)).toEqual(['one', 'two', 'other'])
    expect(await contents(original.id)).toEqual(['one', 'two', 'three'])
    expect((await sessions.messages(fork.id)).messages.map(({ id }) => id).slice(0, 2)).toEqual(ids.slice(0, 2))
    expect(await sessions.get(original.id)).toMatchObject({ messageCount: 3, tokenCount: 6 })
    await sessions.delete(original.id)
    expect(await contents(fork.id)).toEqual(['one', 'two', 'other'])
  })

  test('whole, and empty', async () => {
    const { sessions } = fixture.acme
    const { id } = await sessions.create()
    expect(await sessions.fork(id)).toMatchObject({ messageCount: 0, tokenCount: 0 })
    await sessions.append(id, [say('a', 5)])
    expect(await sessions.fork(id)).toMatchObject({ messageCount: 1, tokenCount: 5 })
  })

  test('refuses a session and a message that do not exist', async () => {
    const { sessions } = fixture.acme
    await expectError(sessions.fork(UNKNOWN), 'session_not_found')
    const { id } = await sessions.create()
    const count = async () => (await sessions.list({ limit: 1000 })).sessions.length
    const before = await count()
    await expectError(sessions.fork(id, { until: UNKNOWN }), 'invalid_message', 'no message of this id')
    expect(await count()).toBe(before)
  })
})
