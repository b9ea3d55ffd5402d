// Exported events: unique and valid ids of CloudEvents, and cells of CSV that no spreadsheet takes for formulas.
import { describe, expect, test } from 'vitest'
import { formatEvent } from '../../src/usage/usage-format.ts'
import type { UsageEvent } from '../../src/usage/usage-types.ts'

const EVENT: UsageEvent = {
  requestId: 'r',
  part: '',
  kind: 'call',
  model: null,
  provider: null,
  userId: null,
  units: {},
  cost: '0',
  currency: 'USD',
  occurredAt: new Date(0),
  recordedAt: new Date(0),
  latencyMs: null,
  metadata: {},
}
const cloudEvent = (event: Partial<UsageEvent>) =>
  JSON.parse(formatEvent('cloudevents', 'acme', { ...EVENT, ...event }))

describe('CloudEvents', () => {
  test('have an id for each request and part', () => {
    const all = [
      { requestId: 'a', part: 'b' },
      { requestId: 'a#b', part: '' },
      { requestId: 'a%23b', part: '' },
      { requestId: 'a#b', part: 'c' },
      { requestId: 'a', part: 'b#c' },
      { requestId: 'a\n', part: '' },
      { requestId: 'a%0A', part: '' },
    ]
    expect(new Set(all.map((event) => cloudEvent(event).id)).size).toBe(all.length)
    for (const { requestId, part } of all)
      expect(cloudEvent({ requestId, part }).data).toMatchObject({ requestId, part })
    // Those that need nothing stay what they are.
    expect(cloudEvent({ requestId: 'req 1/ä' }).id).toBe('req 1/ä')
  })

  test('have attributes without control characters', () => {
    const text = 'x\ny\u0001\u007f\u0085\uffff\u{1fffe}'
    const { id, subject } = cloudEvent({ requestId: text, part: text, userId: text })
    for (const attribute of [id, subject]) expect(attribute).not.toMatch(/[\p{Cc}\p{Noncharacter_Code_Point}]/u)
    expect(decodeURIComponent(subject)).toBe(text)
    expect(cloudEvent({ userId: '' })).not.toHaveProperty('subject')
  })
})

describe('CSV', () => {
  const cell = (provider: string) => formatEvent('csv', 'acme', { ...EVENT, provider }).split(/,call,,|,,"\{|,,\{/)[1]

  test.each(['=1+1', '+1+1', '-cmd', '@cmd', '\t=cmd', '\r=cmd', '\n=cmd', '\r\n\n+cmd', ' =cmd', '\u00a0@cmd'])(
    'the cell %j is no formula',
    (text) => {
      expect(cell(text)).toMatch(/^"?'/)
      expect(cell(text)).toContain(text)
    },
  )

  test.each(['plain', 'a=b', '-5', '-0.5', 'two\nlines'])('the cell %j stays what it is', (text) => {
    expect(cell(text)).toBe(text.includes('\n') ? `"${text}"` : text)
  })
})
