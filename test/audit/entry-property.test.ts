import fc from 'fast-check'
import { expect, test } from 'vitest'
import { serializeEntries } from '../../src/audit/audit-entry.ts'
import { jsonbBytes } from '../../src/audit/jsonb-bytes.ts'
import { RowhouseError } from '../../src/errors.ts'
import type { AuditEntryInput } from '../../src/index.ts'
import { useDatabase } from '../setup/database.ts'
import { ACME, inTransaction, useRowhouse } from './support.ts'

const database = useDatabase()
const fixture = useRowhouse(database)

const append = (json: string) =>
  inTransaction(fixture.app, { role: 'rowhouse_app', tenantId: ACME, rollback: true }, () =>
    fixture.app.query('select rowhouse.append_audit($1)', [json]),
  )

const number = fc.oneof(
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.integer(),
  fc.constantFrom(5e-324, 1e308),
)

test('the length of a detail is the one that the database measures', async () => {
  const detail = fc.dictionary(
    fc.string({ unit: 'grapheme' }),
    fc.anything({ values: [fc.string({ unit: 'binary' }), number, fc.boolean(), fc.constant(null)], maxDepth: 4 }),
  )
  await fc.assert(
    fc.asyncProperty(detail, async (value) => {
      const json = JSON.stringify(value).replaceAll('\\u0000', '')
      const { rows } = await fixture.app.query('select octet_length($1::jsonb::text) as bytes', [json])
      expect(jsonbBytes(json)).toBe(rows[0].bytes)
    }),
    { numRuns: 150 },
  )
})

test('what is accepted, the database accepts', async () => {
  const fields: { [Name in keyof AuditEntryInput]: fc.Arbitrary<unknown> } = {
    action: fc.constantFrom('chat.respond', `a${'b'.repeat(99)}`),
    occurredAt: fc.date(),
    userId: fc.string({ unit: 'binary', minLength: 190, maxLength: 210 }),
    model: fc.string({ unit: 'binary' }),
    inputTokens: fc.oneof(fc.maxSafeNat(), number),
    cost: fc.oneof(number, fc.constantFrom('1', '0.5', `${'9'.repeat(30)}.${'9'.repeat(30)}`, 'NaN', '1e5')),
    documents: fc.array(fc.string({ unit: 'binary' })),
    latencyMs: fc.oneof(number, fc.constantFrom(0.4, Number.MAX_SAFE_INTEGER, 1e300)),
    error: fc.string({ unit: 'binary', minLength: 3990, maxLength: 4010 }),
    detail: fc.oneof(
      fc.dictionary(fc.string({ unit: 'binary' }), fc.jsonValue()),
      fc.integer({ min: 262_100, max: 262_144 }).map((length) => ({ text: 'x'.repeat(length) })),
      fc.constantFrom({ toJSON: () => 'text' }, { list: Array(1000).fill(1e300) }),
    ),
  }
  const entry = fc.oneof(
    ...Object.entries(fields).map(([name, value]) => fc.record({ action: fc.constant('chat.respond'), [name]: value })),
  )
  let accepted = 0
  await fc.assert(
    fc.asyncProperty(entry, async (value) => {
      let json: string
      try {
        json = serializeEntries([value as unknown as AuditEntryInput])[0]!
      } catch (error) {
        expect(error).toBeInstanceOf(RowhouseError)
        return
      }
      accepted++
      await append(json)
    }),
    { numRuns: 300 },
  )
  expect(accepted).toBeGreaterThan(60)
})

test.each<[string, Partial<AuditEntryInput>, Record<string, unknown>]>([
  ['a detail that is too long', { detail: { text: 'x'.repeat(262_144) } }, { detail: { text: 'x'.repeat(262_144) } }],
  [
    'a detail that is too long as the database writes it',
    { detail: { list: Array(1000).fill(1e300) } },
    { detail: { list: Array(1000).fill(1e300) } },
  ],
  ['a time after all calendars', { occurredAt: new Date(8.64e15) }, { occurredAt: '+275760-09-13T00:00:00.000Z' }],
  ['a time before them', { occurredAt: new Date(-8.64e15) }, { occurredAt: '-271821-04-20T00:00:00.000Z' }],
  ['a latency without end', { latencyMs: 1e300 }, { latencyMs: 1e300 }],
])('%s is refused before it is sent, as the database would', async (_name, fields, sent) => {
  expect(() => serializeEntries([{ action: 'bad', ...fields }])).toThrow(/^The audit entry: /)
  await expect(append(JSON.stringify({ action: 'bad', ...sent }))).rejects.toMatchObject({ code: 'RH090' })
})
