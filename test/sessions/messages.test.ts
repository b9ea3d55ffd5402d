import { describe, expect, test } from 'vitest'
import type { ContentPart } from '../../src/index.ts'
import { expectError } from '../documents/fixture.ts'
import { useDatabase } from '../setup/database.ts'
import { ACME, provision, say, texts, useSessions } from './fixture.ts'

const database = useDatabase()
const fixture = useSessions(database)
const UNKNOWN = '6f3a9c1e-0000-4000-8000-000000000000'

async function newSession(): Promise<string> {
  return (await fixture.acme.sessions.create()).id
}

describe('append', () => {
  test('keeps every kind of part letter by letter, in order', async () => {
    const { sessions } = fixture.acme
    const id = await newSession()
    const content: ContentPart[] = [
      { type: 'text', text: 'Grüße 👋 "quoted" \\ back\nslash \\u0000 and {braces}' },
      { type: 'tool_call', id: 'c1', name: 'track', arguments: { zebra: 1, apple: [1.5, null, { b: 2, a: 1 }] } },
      { type: 'tool_result', callId: 'c1', result: null, isError: true },
      { type: 'json', value: [] },
      { type: 'text', text: '', cacheControl: { type: 'ephemeral' } },
    ]
    const appended = await sessions.append(id, [
      { role: 'system', content: 'Be kind.' },
      { role: 'assistant', content, tokenCount: 77, metadata: { model: 'm-1' } },
      { role: 'user', content: [] },
    ])
    const { messages, nextCursor } = await sessions.messages(id)
    expect(nextCursor).toBeUndefined()
    expect(messages).toMatchObject([
      { tenantId: ACME, sessionId: id, role: 'system', content: [{ type: 'text', text: 'Be kind.' }], metadata: {} },
      { role: 'assistant', content, tokenCount: 77, metadata: { model: 'm-1' } },
      { role: 'user', content: [] },
    ])
    // The order of properties too: caches of providers compare the text.
    expect(JSON.stringify(messages[1]!.content)).toBe(JSON.stringify(content))
    expect(messages.map((message) => message.id)).toEqual(appended.ids)
    expect(appended).toMatchObject({ length: 3, tokenCounts: [expect.any(Number), 77, expect.any(Number)] })
    expect(await sessions.get(id)).toMatchObject({
      messageCount: 3,
      tokenCount: appended.tokenCounts.reduce((sum, count) => sum + count),
    })
  })

  test('ids are ordered by time', async () => {
    const { sessions } = fixture.acme
    const id = await newSession()
    const ids: string[] = []
    for (let round = 0; round < 5; round++) ids.push(...(await sessions.append(id, [say('a'), say('b')])).ids)
    for (const one of ids) expect(one).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
    expect([...ids].sort()).toEqual(ids)
    const { messages } = await sessions.messages(id)
    expect(messages.map((message) => message.id)).toEqual(ids)
    const milliseconds = Number.parseInt(ids[0]!.replaceAll('-', '').slice(0, 12), 16)
    expect(Math.abs(milliseconds - messages[0]!.createdAt.getTime())).toBeLessThanOrEqual(1)
  })

  test('1000 at once', async () => {
    const { sessions } = fixture.acme
    const id = await newSession()
    const appended = await sessions.append(
      id,
      Array.from({ length: 1000 }, (_, number) => say(`m${number}`)),
    )
    expect(appended.length).toBe(1000)
    const { messages } = await sessions.messages(id, { limit: 1000 })
    expect(texts(messages)).toEqual(Array.from({ length: 1000 }, (_, number) => `m${number}`))
  })

  test('an estimate of the tokens is more for more text', async () => {
    const id = await newSession()
    const { tokenCounts } = await fixture.acme.sessions.append(id, [say(''), say('x'.repeat(4000))])
    expect(tokenCounts[0]).toBeLessThan(20)
    expect(tokenCounts[1]).toBeGreaterThan(1000)
    expect(tokenCounts[1]).toBeLessThan(1050)
  })

  test('of an expected length only', async () => {
    const { sessions } = fixture.acme
    const id = await newSession()
    await sessions.append(id, [say('one')], { expectedLength: 0 })
    const error = await expectError(
      sessions.append(id, [say('two')], { expectedLength: 0 }),
      'session_changed',
      'the session has 1 messages, not 0',
    )
    expect(error).toMatchObject({ httpStatus: 409, sqlstate: 'RH063' })
    expect((await sessions.append(id, [say('two'), say('three')], { expectedLength: 1 })).length).toBe(3)
    expect(texts((await sessions.messages(id)).messages)).toEqual(['one', 'two', 'three'])
  })

  test('fails for a session that does not exist', async () => {
    await expectError(fixture.acme.sessions.append(UNKNOWN, [say('a')]), 'session_not_found')
    await expectError(fixture.acme.sessions.messages(UNKNOWN), 'session_not_found')
    await expectError(fixture.acme.sessions.window(UNKNOWN, { maxTokens: 5 }), 'session_not_found')
    await expectError(fixture.acme.sessions.search(UNKNOWN, 'x'), 'session_not_found')
  })
})

test('pages in both orders', async () => {
  const { sessions } = fixture.acme
  const id = await newSession()
  const all = Array.from({ length: 10 }, (_, number) => `m${number}`)
  await sessions.append(
    id,
    all.map((text) => say(text)),
  )
  for (const order of ['oldest first', 'newest first'] as const) {
    const found: unknown[] = []
    let cursor: string | undefined
    do {
      const page = await sessions.messages(id, { order, limit: 4, cursor })
      found.push(...texts(page.messages))
      cursor = page.nextCursor
    } while (cursor !== undefined)
    expect(found).toEqual(order === 'oldest first' ? all : all.toReversed())
  }
  expect((await sessions.messages(id, { limit: 10 })).nextCursor).toBeUndefined()
})

test('search finds every word, in any case and order, in text only', async () => {
  const { sessions } = fixture.acme
  const id = await newSession()
  await sessions.append(id, [
    say('The refund policy of the SHOP'),
    say('Policies differ'),
    { role: 'assistant', content: [{ type: 'json', value: 'refund policy' }] },
    {
      role: 'user',
      content: [
        { type: 'text', text: 'refund' },
        { type: 'text', text: 'our Policy, 100%_sure' },
      ],
    },
    say('Straße "quoted" \\'),
  ])
  const find = async (query: string) => texts((await sessions.search(id, query)).messages)
  expect(await find('policy refund')).toEqual(['refund', 'The refund policy of the SHOP'])
  expect(await find('  POLICY\n')).toEqual(['refund', 'The refund policy of the SHOP'])
  expect(await find('100%_sure')).toEqual(['refund'])
  expect(await find('straße "quoted" \\')).toEqual(['Straße "quoted" \\'])
  expect(await find('nowhere')).toEqual([])
  const first = await sessions.search(id, 'refund', { limit: 1 })
  expect(texts(first.messages)).toEqual(['refund'])
  const second = await sessions.search(id, 'refund', { limit: 1, cursor: first.nextCursor })
  expect(texts(second.messages)).toEqual(['The refund policy of the SHOP'])
  expect(second.nextCursor).toBeUndefined()
})

describe('the budget of a window', () => {
  test('comes from the call and the settings of the tenant, whichever is smaller', async () => {
    await provision(database, 'limited', 'free', { context: { maxTokens: 50, reserveTokens: 20 } })
    const { sessions } = fixture.rowhouse.tenant('limited')
    const { id } = await sessions.create()
    await sessions.append(
      id,
      Array.from({ length: 10 }, () => say('x', 10)),
    )
    const tokens = async (options: object) => (await sessions.window(id, options)).tokenCount
    expect(await tokens({})).toBe(30)
    expect(await tokens({ maxTokens: 40 })).toBe(20)
    expect(await tokens({ maxTokens: 90 })).toBe(30)
    expect(await tokens({ reserveTokens: 0 })).toBe(50)
    expect(await tokens({ reserveTokens: 60 })).toBe(0)
  })

  test('has to come from somewhere', async () => {
    const id = await newSession()
    const failure = fixture.acme.sessions.window(id)
    await expectError(failure, 'no_context_limit', 'a window needs a limit')
  })
})
