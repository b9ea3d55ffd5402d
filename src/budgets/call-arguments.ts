import * as z from 'zod'
import { serializeEntries } from '../audit/audit-entry.ts'
import { parse } from '../documents/parse-documents.ts'
import { storableJson, storableText } from '../documents/parse-text.ts'
import type { RowhouseErrorCode } from '../errors.ts'
import type { SettleDetails } from './budget-types.ts'

/** The code that the database has for the same mistakes. */
const CODE: RowhouseErrorCode = 'invalid_amount'

const id = storableText(200)
const part = storableText(64).or(z.literal(''))
const circuit = storableText(100).or(z.literal(''))
const text = z
  .string('is not a string')
  .refine((value) => !value.includes('\0'), 'contains a zero byte, which Postgres can not store')
  .refine((value) => value.isWellFormed(), 'was cut in the middle of a character')
const details = z.strictObject({
  kind: z
    .string('is not a string')
    .regex(/^[a-z][a-z0-9_]{0,62}$/, 'is not a name of lower-case letters, digits and underscores')
    .optional(),
  provider: storableText(200).or(z.literal('')).optional(),
  latencyMs: z.number('is not a number').min(0, 'is negative').max(2_147_483_647, 'is more than 2147483647').optional(),
  metadata: storableJson(65_536).optional(),
  failed: z.boolean('is not true or false').optional(),
})

/** The id of a call or of an event: what the database would refuse, or can't store, is refused before it is sent. */
export function parseCallId(value: string, subject = 'The request id'): string {
  return parse(id, value, CODE, subject)
}

export function parsePart(value: string): string {
  return parse(part, value, CODE, 'The name of a part')
}

export function parseCircuit(value: string): string {
  return parse(circuit, value, CODE, 'The name of a circuit')
}

/** A name that the database looks up: a model, a rate limit. */
export function parseName<T extends string | null>(value: T, subject: string): T {
  if (value !== null) parse(text, value, CODE, subject)
  return value
}

/** Details of a call as the JSON object that the database takes. */
export function detailsToJson({ audit, ...value }: SettleDetails): string {
  const { metadata, ...rest } = parse(details, value, CODE, 'The details of a call')
  const members = Object.entries(rest).flatMap(([name, member]) =>
    member === undefined ? [] : [`"${name}":${JSON.stringify(member)}`],
  )
  if (metadata !== undefined) members.push(`"metadata":${metadata}`)
  if (audit !== undefined) members.push(`"audit":${serializeEntries([audit])[0]}`)
  return `{${members.join(',')}}`
}
