// The counter that is named to users: windows and prompts keep to a budget of its tokens, and the estimate is above it.
import { countTokens } from 'gpt-tokenizer'
import { afterAll, expect, inject, it } from 'vitest'
import { createRowhouse } from '../../src/index.ts'
import { estimateTokens } from '../../src/prompt/count-tokens.ts'

const rowhouse = createRowhouse({ connectionString: inject('appUrl'), poolOptions: { max: 2 }, countTokens })
afterAll(() => rowhouse.close())

const TEXTS = [
  'Where is my parcel? It left the depot this morning and should arrive before noon, unless it rains.',
  'const total = rows.reduce((sum, { amount }) => sum + amount, 0)\nif (total > 100) throw new Error("over")',
  'Die Rechnung Nr. 4711 vom 21. November 2026 über 1.250,00 Euro ist noch offen; wir bitten um Überweisung.',
  '返品は三十日以内に受け付けます。領収書をお持ちください。',
]

it('counts messages, so that a window has no more of its tokens than asked for', async () => {
  const { sessions } = rowhouse.tenant('acme')
  const { id } = await sessions.create()
  const messages = Array.from({ length: 40 }, (_, number) => ({
    role: 'user' as const,
    content: TEXTS[number % TEXTS.length]!,
  }))
  const { tokenCounts } = await sessions.append(id, messages)
  expect(tokenCounts).toEqual(messages.map(({ content }) => 4 + countTokens(content)))
  const window = await sessions.window(id, { maxTokens: 300 })
  const texts = window.messages.map(({ content }) => content[0]!.text as string)
  expect(texts.length).toBeGreaterThan(3)
  expect(texts.reduce((sum, text) => sum + countTokens(text), 0)).toBeLessThanOrEqual(300)
})

it('counts prompts', () => {
  const documents = TEXTS.map((content, number) => ({ tenantId: 'acme', id: `d${number}`, content }))
  const { text, tokens, included } = rowhouse.tenant('acme').prompt.ragContext(documents, { maxTokens: 90 })
  expect(tokens).toBe(countTokens(text))
  expect(tokens).toBeLessThanOrEqual(90)
  expect(included.length).toBeGreaterThan(0)
})

it.each(TEXTS)('is not above the estimate for: %s', (text) => {
  expect(estimateTokens(text)).toBeGreaterThanOrEqual(countTokens(text))
})
