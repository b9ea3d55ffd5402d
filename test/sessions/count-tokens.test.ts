// Tokens of messages: as given, else by the counter of the application, else the estimate of the database.
import { expect, test } from 'vitest'
import { type NewMessage, type RowhouseOptions, TenantContext } from '../../src/index.ts'
import { ACME, openRowhouse, useRowhouse } from '../audit/support.ts'
import { useDatabase } from '../setup/database.ts'

const database = useDatabase()
const fixture = useRowhouse(database)

const MESSAGES: NewMessage[] = [
  { role: 'user', content: 'one two three' },
  { role: 'user', content: 'one two three', tokenCount: 100 },
  {
    role: 'assistant',
    content: [
      { type: 'text', text: 'four five' },
      { type: 'tool_call', id: 'c1', name: 'track', arguments: { parcel: 7 } },
    ],
  },
]

/** Words, so that each part is told apart from an estimate. */
const countWords = (text: string) => text.split(' ').length

async function counts(options: Partial<RowhouseOptions>, messages = MESSAGES): Promise<readonly number[]> {
  const rowhouse = openRowhouse(database, options)
  try {
    const { sessions } = rowhouse.tenant(ACME)
    const { id } = await sessions.create()
    const { tokenCounts } = await sessions.append(id, messages)
    const { tokenCount } = await sessions.window(id, { maxTokens: 10_000 })
    expect(tokenCount).toBe(tokenCounts.reduce((sum, count) => sum + count, 0))
    return tokenCounts
  } finally {
    await rowhouse.close()
  }
}

test('the counter of the application counts messages that say nothing themselves', async () => {
  expect(await counts({ countTokens: countWords })).toEqual([4 + 3, 100, 4 + 2 + 1])
})

test('the control: without one the database estimates, from their length', async () => {
  const estimates = await counts({})
  expect(estimates).toEqual([14, 100, expect.any(Number)])
  expect(estimates[2]).toBeGreaterThan(20)
})

test('inside withTenant and in prompts it is the same counter; a call may have its own', async () => {
  const rowhouse = openRowhouse(database, { countTokens: countWords })
  const [inside] = await rowhouse.withTenant(ACME, async (_db, { sessions }) => {
    const { id } = await sessions.create()
    return (await sessions.append(id, MESSAGES.slice(0, 1))).tokenCounts
  })
  expect(inside).toBe(7)
  const documents = [{ tenantId: ACME, id: 'a', content: 'one two three' }] as never
  const { prompt } = rowhouse.tenant(ACME)
  const byWords = prompt.ragContext(documents, { maxTokens: 1000 })
  expect(byWords.tokens).toBe(countWords(byWords.text))
  const own = prompt.ragContext(documents, { maxTokens: 1000, countTokens: (text) => text.length })
  expect(own.tokens).toBe(own.text.length)
  const estimated = fixture.rowhouse.tenant(ACME)
  expect(estimated).toBeInstanceOf(TenantContext)
  expect(estimated.prompt.ragContext(documents, { maxTokens: 1000 }).tokens).not.toBe(byWords.tokens)
  await rowhouse.close()
})

test('a counter that counts nothing sensible is refused', async () => {
  for (const countTokens of [() => Number.NaN, () => -1, () => 1.5, () => '3' as never]) {
    await expect(counts({ countTokens })).rejects.toMatchObject({ code: 'invalid_argument' })
  }
  expect(() => openRowhouse(database, { countTokens: 4 as never })).toThrow('countTokens')
})
