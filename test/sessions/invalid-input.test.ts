// Bad input is refused with a typed error before anything is written.
import { beforeAll, describe, expect, test } from 'vitest'
import { expectError } from '../documents/fixture.ts'
import { rowsInTenant } from '../isolation/support/in-tenant.ts'
import { useDatabase } from '../setup/database.ts'
import { ACME, say, useSessions } from './fixture.ts'

const database = useDatabase()
const fixture = useSessions(database)
let id: string
beforeAll(async () => {
  id = (await fixture.acme.sessions.create({ metadata: { kept: true } })).id
})

const count = async () => (await fixture.acme.sessions.list({ limit: 1000 })).sessions.length

describe('a session', () => {
  test.for<[string, object, string]>([
    ['oversized metadata', { metadata: { a: 'x'.repeat(70_000) } }, 'metadata has more than 65536 bytes'],
    ['an array as metadata', { metadata: [] }, 'metadata is not an object'],
    ['a zero byte in metadata', { metadata: { a: 'x\0' } }, 'metadata contains a zero byte'],
    ['half of a character in metadata', { metadata: { a: '\ud83d' } }, 'half of a character'],
    ['an empty user', { userId: '' }, 'userId is empty'],
    ['a long agent', { agentId: 'x'.repeat(201) }, 'agentId has more than 200 characters'],
    ['a zero byte', { userId: 'a\0b' }, 'userId contains a zero byte'],
    ['a user that is a number', { userId: 7 }, 'userId is not a string'],
    ['101 providers', { providers: Array.from({ length: 101 }, () => 'x') }, 'providers has more than 100 elements'],
    ['a provider that is no string', { providers: [1] }, 'providers.0 is not a string'],
    ['an expiry in the past', { expiresInMs: -1 }, 'expiresInMs is not more than 0'],
    ['an expiry that is no number', { expiresInMs: Number.NaN }, 'expiresInMs is not a finite number'],
    ['an unknown property', { user: 'x' }, 'unrecognized key: "user"'],
  ])('with %s', async ([, bad, message]) => {
    const { sessions } = fixture.acme
    const before = await count()
    await expectError(sessions.create(bad), 'invalid_session', message)
    await expectError(sessions.update(id, bad), 'invalid_session', message)
    expect(await count()).toBe(before)
    expect(await sessions.get(id)).toMatchObject({ metadata: { kept: true }, userId: null })
  })

  test('of an id that is none', async () => {
    for (const bad of ['', 'x', '6f3a9c1e00004000800000000000000', 'a'.repeat(36), undefined, null, 7] as string[]) {
      await expectError(fixture.acme.sessions.get(bad), 'invalid_argument', 'The id of the session is not a')
      await expectError(fixture.acme.sessions.append(bad, [say('x')]), 'invalid_argument')
    }
  })
})

describe('a message', () => {
  const part = (given: object) => ({ content: [{ type: 'text', text: 'good' }, given] })
  test.for<[string, object, string]>([
    ['an unknown role', { role: 'robot' }, 'Message 2 of 2: role is not system, user, assistant or tool'],
    ['no role', { role: undefined }, 'role is not'],
    ['no content', { content: undefined }, 'content is not a string or an array of parts'],
    ['an object as content', { content: { type: 'text', text: 'x' } }, 'content is not a string or an array'],
    ['a zero byte', { content: 'a\0b' }, 'content contains a zero byte'],
    ['half of a character', { content: 'a\udc00b' }, 'half of a character'],
    ['a zero byte deep inside', part({ type: 'json', value: { a: ['\0'] } }), 'contains a zero byte'],
    ['half of a character in a name', part({ type: 'json', value: { '\ud800': 1 } }), 'half of a character'],
    ['too much content', { content: 'x'.repeat(1_048_577) }, 'content has more than 1048576 bytes'],
    [
      'an unknown part',
      part({ type: 'image', url: 'x' }),
      'part 2 of 2: type is not text, tool_call, tool_result or json',
    ],
    ['a part without a type', part({ text: 'x' }), 'type is not text, tool_call'],
    ['text that is a number', part({ type: 'text', text: 5 }), 'text is not a string'],
    ['a call without an id', part({ type: 'tool_call', name: 'x', arguments: {} }), 'id is not a string'],
    ['a call without arguments', part({ type: 'tool_call', id: 'x', name: 'x' }), 'arguments is missing'],
    ['a call with an empty id', part({ type: 'tool_call', id: '', name: 'x', arguments: 1 }), 'id is empty'],
    ['a result without a call', part({ type: 'tool_result', result: 1 }), 'callId is not a string'],
    ['a result of nothing', part({ type: 'tool_result', callId: 'x' }), 'result is missing'],
    ['a circle', part(circle()), 'can not be written as JSON'],
    ['a bigint', part({ type: 'json', value: 1n }), 'can not be written as JSON'],
    ['a negative number of tokens', { tokenCount: -1 }, 'tokenCount is less than 0'],
    ['half a token', { tokenCount: 0.5 }, 'tokenCount is not a whole number'],
    ['oversized metadata', { metadata: { a: 'x'.repeat(70_000) } }, 'metadata has more than 65536 bytes'],
    ['an unknown property', { name: 'x' }, 'unrecognized key: "name"'],
  ])('with %s', async ([, bad, message]) => {
    const { sessions } = fixture.acme
    const messages = [say('good'), { ...say('good'), ...bad }] as never
    await expectError(sessions.append(id, messages), 'invalid_message', message)
    expect((await sessions.messages(id)).messages).toEqual([])
    expect(await sessions.get(id)).toMatchObject({ messageCount: 0, tokenCount: 0 })
  })

  test('none, and too many', async () => {
    const { sessions } = fixture.acme
    await expectError(sessions.append(id, []), 'invalid_message', '1 to 1000 messages are appended at once, not 0')
    const many = Array.from({ length: 1001 }, () => say('x'))
    await expectError(sessions.append(id, many), 'invalid_message', 'not 1001')
    await expectError(sessions.append(id, say('x') as never), 'invalid_message', 'takes an array')
  })
})

describe('a question', () => {
  test.for<[string, (sessions: (typeof fixture)['acme']['sessions']) => Promise<unknown>, string]>([
    ['a page of nothing', (sessions) => sessions.list({ limit: 0 }), 'limit is less than 1'],
    ['a page of too much', (sessions) => sessions.messages(id, { limit: 1001 }), 'limit is more than 1000'],
    ['an unknown order', (sessions) => sessions.messages(id, { order: 'up' as never }), 'order is not'],
    ['a window of less than nothing', (sessions) => sessions.window(id, { maxTokens: -1 }), 'maxTokens is less than 0'],
    ['a search for nothing', (sessions) => sessions.search(id, ''), 'query is empty'],
    ['a search for space', (sessions) => sessions.search(id, '  '), '1 to 32 words, not 0'],
    ['a search for a zero byte', (sessions) => sessions.search(id, 'a\0'), 'query contains a zero byte'],
    ['an unknown option', (sessions) => sessions.list({ user: 'x' } as never), 'unrecognized key: "user"'],
    [
      'an expected length below 0',
      (sessions) => sessions.append(id, [say('x')], { expectedLength: -1 }),
      'less than 0',
    ],
    ['a fork at nothing', (sessions) => sessions.fork(id, { until: 'x' }), 'The id of the message is not a UUID'],
  ])('%s', async ([, ask, message]) => {
    await expectError(ask(fixture.acme.sessions), 'invalid_argument', message)
  })
})

describe('a cursor', () => {
  test('of another tenant, another session, another order or another filter', async () => {
    const own = fixture.acme.sessions
    const foreign = fixture.globex.sessions
    for (const sessions of [own, foreign]) {
      for (let number = 0; number < 3; number++) await sessions.create({ userId: 'cursor' })
    }
    const { nextCursor } = await foreign.list({ limit: 1 })
    expect(nextCursor).toBeDefined()
    await expectError(own.list({ limit: 1, cursor: nextCursor }), 'invalid_cursor', 'none of this list')
    const filtered = await own.list({ limit: 1, userId: 'cursor' })
    await expectError(own.list({ limit: 1, cursor: filtered.nextCursor }), 'invalid_cursor')

    const [one, other] = [await own.create(), await own.create()]
    for (const session of [one, other]) await own.append(session.id, [say('a'), say('b'), say('c')])
    const page = await own.messages(one.id, { limit: 1 })
    expect(page.nextCursor).toBeDefined()
    await expectError(own.messages(other.id, { limit: 1, cursor: page.nextCursor }), 'invalid_cursor')
    await expectError(own.messages(one.id, { order: 'newest first', cursor: page.nextCursor }), 'invalid_cursor')
    await expectError(own.search(one.id, 'a', { cursor: page.nextCursor }), 'invalid_cursor')
  })

  test('that is none', async () => {
    for (const cursor of ['', 'x', 'bnVsbA', Buffer.from('["a"]').toString('base64url'), 'x'.repeat(900)]) {
      await expectError(fixture.acme.sessions.list({ cursor }), 'invalid_cursor')
      await expectError(fixture.acme.sessions.messages(id, { cursor }), 'invalid_cursor')
    }
    await expectError(fixture.acme.sessions.list({ cursor: 7 as never }), 'invalid_argument', 'cursor is not a string')
  })

  test('holds no id of the tenant', async () => {
    const { nextCursor } = await fixture.acme.sessions.list({ limit: 1 })
    expect(Buffer.from(nextCursor!, 'base64url').toString()).not.toContain(ACME)
  })
})

// What a client in another language may send.
describe('the database refuses', () => {
  test.for<[string, string, string]>([
    ['RH061', "create_session('')", 'user id'],
    ['RH061', "create_session(null, repeat('x', 201))", 'agent id'],
    ['RH061', "create_session(null, null, '[]')", 'metadata that is no JSON object'],
    ['RH061', 'create_session(null, null, null)', 'metadata that is no JSON object'],
    ['RH061', "create_session(null, null, jsonb_build_object('a', repeat('x', 70000)))", 'more than 65536 bytes'],
    ['RH061', "create_session(null, null, '{}', array[''])", 'a provider'],
    ['RH061', "create_session(null, null, '{}', null, now() - interval '1 s')", 'not in the future'],
    ['RH061', `update_session('$id', '{"tenantId": "globex"}')`, 'no property "tenantId"'],
    ['RH061', `update_session('$id', '{"messageCount": 7}')`, 'no property "messageCount"'],
    ['RH061', `update_session('$id', '{"providers": 7}')`, 'are an array'],
    ['RH062', "append_messages('$id', '{}', '{}')", 'not 0'],
    ['RH062', "append_messages('$id', null, null)", 'not 0'],
    ['RH062', "append_messages('$id', array['user'], array['[]','[]']::json[])", 'not equally many'],
    ['RH062', "append_messages('$id', array['robot'], array['[]']::json[])", 'message 1 of 1 has a role other than'],
    ['RH062', "append_messages('$id', array['user'], array['{}']::json[])", 'no array of parts'],
    ['RH062', "append_messages('$id', array['user'], array[null]::json[])", 'no array of parts'],
    ['RH062', `append_messages('$id', array['user'], array['[{"type":"text"}]']::json[])`, 'has a part that'],
    ['RH062', `append_messages('$id', array['user'], array['[{"type":"image"}]']::json[])`, 'has a part that'],
    ['RH062', `append_messages('$id', array['user'], array['["text"]']::json[])`, 'has a part that'],
    [
      'RH062',
      `append_messages('$id', array['user'], array['[{"type":"text","text":"\\u0000"}]']::json[])`,
      'zero byte',
    ],
    [
      'RH062',
      `append_messages('$id', array['user'], array['[{"type":"text","text":"\\ud83d"}]']::json[])`,
      'half of a',
    ],
    ['RH062', "append_messages('$id', array['user'], array['[]']::json[], array[-1])", 'token count'],
    ['RH062', "append_messages('$id', array['user'], array['[]']::json[], null, array['[]']::jsonb[])", 'metadata'],
    ['RH060', "append_messages(gen_random_uuid(), array['user'], array['[]']::json[])", 'does not exist'],
    ['22023', "list_messages('$id', 0)", 'limit'],
    ['22023', 'list_sessions(null)', 'limit'],
    ['22023', "search_messages('$id', null)", 'words'],
  ])('%s: %s', async ([sqlstate, call, message]) => {
    const app = await database.connect('app')
    const failure = rowsInTenant(app, ACME, `select rowhouse.${call.replace('$id', id)}`)
    await expect(failure).rejects.toMatchObject({ code: sqlstate, message: expect.stringContaining(message) })
    await app.end()
  })
})

function circle(): object {
  const value: Record<string, unknown> = {}
  value.self = value
  return { type: 'json', value }
}
