// A window never has more tokens than its budget, is the end of the session, is never a result without its call, and
// could not have begun earlier.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { ContentPart, Message, NewMessage } from '../../src/index.ts'
import { useDatabase } from '../setup/database.ts'
import { call, result, say, useSessions } from './fixture.ts'

const database = useDatabase()
const fixture = useSessions(database)

// Few ids, so that calls are answered late, twice, never, and under the id of an earlier call.
const callId = fc.constantFrom('a', 'b', 'c')
const part: fc.Arbitrary<ContentPart> = fc.oneof(
  fc.constant<ContentPart>({ type: 'text', text: 'x' }),
  callId.map((id): ContentPart => ({ type: 'tool_call', id, name: 'look_up', arguments: {} })),
  callId.map((id): ContentPart => ({ type: 'tool_result', callId: id, result: 1 })),
)
const message: fc.Arbitrary<NewMessage> = fc.record({
  role: fc.constantFrom('user', 'assistant', 'tool'),
  content: fc.array(part, { maxLength: 3 }),
  tokenCount: fc.integer({ min: 0, max: 20 }),
})
/** The messages of one append each. */
const history = fc.array(fc.array(message, { minLength: 1, maxLength: 4 }), { maxLength: 6 })

const idsOf = (message: Pick<Message, 'content'>, type: ContentPart['type'], property: string) =>
  message.content.filter((candidate) => candidate.type === type).map((candidate) => candidate[property])

/** For each message, the position that a window must begin at or before when the message is in it. */
function needs(messages: readonly Message[]): number[] {
  return messages.map((message, position) => {
    let needed = position
    for (const id of idsOf(message, 'tool_result', 'callId')) {
      const caller = messages.findLastIndex(
        (candidate, index) => index <= position && idsOf(candidate, 'tool_call', 'id').includes(id),
      )
      if (caller !== -1) needed = Math.min(needed, caller)
    }
    return needed
  })
}

test('holds for any history and any budget', async () => {
  await fc.assert(
    fc.asyncProperty(history, fc.array(fc.nat(120), { minLength: 1, maxLength: 5 }), async (appends, budgets) => {
      const { sessions } = fixture.acme
      const { id } = await sessions.create()
      for (const messages of appends) await sessions.append(id, messages)
      const all = (await sessions.messages(id, { limit: 1000 })).messages
      const earliest = needs(all)
      const whole = (start: number) => earliest.slice(start).every((needed) => needed >= start)
      const tokens = (start: number) => all.slice(start).reduce((sum, { tokenCount }) => sum + tokenCount, 0)
      for (const maxTokens of budgets) {
        const window = await sessions.window(id, { maxTokens })
        const start = all.length - window.messages.length
        expect(window.tokenCount).toBeLessThanOrEqual(maxTokens)
        expect(window.messages).toEqual(all.slice(start))
        expect(whole(start)).toBe(true)
        const longer = Array.from({ length: start }, (_, index) => index)
        expect(longer.filter((index) => tokens(index) <= maxTokens && whole(index))).toEqual([])
      }
    }),
    { numRuns: 60 },
  )
}, 120_000)

test('keeps a call with its results, however many there are', async () => {
  const { sessions } = fixture.acme
  const { id } = await sessions.create()
  await sessions.append(id, [
    say('old', 5),
    call('c', 5),
    result('c', 5),
    say('between', 5),
    result('c', 5),
    say('new', 5),
  ])
  const texts = async (maxTokens: number) => (await sessions.window(id, { maxTokens })).messages.length
  expect(await texts(4)).toBe(0)
  expect(await texts(5)).toBe(1)
  expect(await texts(24)).toBe(1)
  expect(await texts(25)).toBe(5)
  expect(await texts(30)).toBe(6)
})

test('a result whose call is not in the session stands by itself', async () => {
  const { sessions } = fixture.acme
  const { id } = await sessions.create()
  await sessions.append(id, [say('old', 5), result('gone', 5), say('new', 5)])
  await sessions.append(id, [result('later', 5), call('later', 5)])
  expect((await sessions.window(id, { maxTokens: 20 })).messages).toHaveLength(4)
  expect((await sessions.window(id, { maxTokens: 100 })).messages).toHaveLength(5)
})
