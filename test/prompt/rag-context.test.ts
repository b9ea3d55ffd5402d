import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { estimateTokens } from '../../src/index.ts'
import { buildRagContext } from '../../src/prompt/rag-context.ts'

const document = (id: string, content: string, metadata = {}, tenantId = 'acme') => ({
  tenantId,
  id,
  content,
  metadata,
})
const byCharacter = (text: string) => text.length

describe('documents in a prompt', () => {
  test('stand in elements of their own, with the metadata asked for', () => {
    const { text, included } = buildRagContext(
      'acme',
      [
        document('a', 'Thirty days.', { source: 'handbook', secret: 'x', page: 3, "o'dd key": 'v' }),
        document('b', 'Five days.'),
      ],
      { maxTokens: 1000, show: ['source', 'page', 'missing', "o'dd key"] },
    )
    expect(text).toBe(
      '<document id="a" source="handbook" page="3" o_dd_key="v">\nThirty days.\n</document>\n<document id="b">\nFive days.\n</document>',
    )
    expect(included).toEqual(['a', 'b'])
  })

  test('of another tenant are refused, all of them, without a word of what they hold', () => {
    const build = () =>
      buildRagContext('acme', [document('a', 'fine'), document('b', 'secret', {}, 'globex')], { maxTokens: 1000 })
    expect(build).toThrow(
      expect.objectContaining({ code: 'tenant_mismatch', message: expect.not.stringMatching(/secret|globex/) }),
    )
  })

  test('that do not fit are left out and named; smaller ones behind them still go in', () => {
    const options = { maxTokens: 90, countTokens: byCharacter }
    const { included, omitted, tokens, text } = buildRagContext(
      'acme',
      [document('a', 'one'), document('b', 'x'.repeat(100)), document('c', 'two')],
      options,
    )
    expect({ included, omitted }).toEqual({ included: ['a', 'c'], omitted: ['b'] })
    expect(tokens).toBe(text.length)
  })

  test('that come twice are told once', () => {
    expect(buildRagContext('acme', [document('a', 'one'), document('a', 'one')], { maxTokens: 100 }).included).toEqual([
      'a',
    ])
  })

  test('none, or no room: no text', () => {
    for (const [documents, maxTokens] of [
      [[], 100],
      [[document('a', 'one')], 0],
    ] as const) {
      expect(buildRagContext('acme', documents, { maxTokens })).toMatchObject({ text: '', tokens: 0, included: [] })
    }
  })

  test.each([{}, { maxTokens: -1 }, { maxTokens: 1.5 }, { maxTokens: 1, countTokens: 3 }, { maxTokens: 1, other: 1 }])(
    'bad options are refused: %j',
    (options) => {
      expect(() => buildRagContext('acme', [], options as { maxTokens: number })).toThrow(
        expect.objectContaining({ code: 'invalid_argument' }),
      )
    },
  )
})

const content = fc
  .array(fc.oneof(fc.string(), fc.constantFrom('</document>', '<document id="x">', '< / DOCUMENT >', '"', '<b>')), {
    maxLength: 6,
  })
  .map((parts) => parts.join(''))

test('whatever the documents hold: the text keeps to the budget, and has as many elements as documents', () => {
  const documents = fc.uniqueArray(fc.record({ id: content, content, title: content }), {
    maxLength: 8,
    selector: ({ id }) => id,
  })
  fc.assert(
    fc.property(
      documents,
      fc.nat(400),
      fc.constantFrom(byCharacter, estimateTokens),
      (given, maxTokens, countTokens) => {
        const all = given.map(({ id, content: text, title }) => document(id, text, { title }))
        const result = buildRagContext('acme', all, { maxTokens, countTokens, show: ['title'] })
        expect(countTokens(result.text)).toBe(result.tokens)
        expect(result.tokens).toBeLessThanOrEqual(maxTokens)
        expect(result.text.match(/<\s*document/gi)?.length ?? 0).toBe(result.included.length)
        expect(result.text.match(/<\s*\/\s*document/gi)?.length ?? 0).toBe(result.included.length)
        expect([...result.included, ...result.omitted].toSorted()).toEqual(given.map(({ id }) => id).toSorted())
      },
    ),
  )
})

test.each([
  ['', 0],
  ['Refunds take five days.', 6],
  ['日本語', 3],
  ['x'.repeat(50), 10],
])('the estimate of %j is %i', (text, tokens) => {
  expect(estimateTokens(text)).toBe(tokens)
})
