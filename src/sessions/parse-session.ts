import * as z from 'zod'
import { parse } from '../documents/parse-documents.ts'
import { storableJson, storableText } from '../documents/parse-text.ts'
import type { SessionChanges, SessionListOptions, SessionOptions } from './session-types.ts'

const name = storableText(200)
const metadata = storableJson(65_536)
const providers = z.array(name, 'is not an array').max(100, 'has more than 100 elements')
/** Up to ten years. */
const milliseconds = z
  .number('is not a finite number')
  .positive('is not more than 0')
  .max(315_360_000_000, 'is more than ten years')

const sessionOptions = z.strictObject({
  userId: name.optional(),
  agentId: name.optional(),
  metadata: metadata.optional(),
  providers: providers.optional(),
  expiresInMs: milliseconds.optional(),
})

/** Options of a session that are ready to be sent. */
export interface ParsedSession {
  readonly userId: string | null
  readonly agentId: string | null
  /** As JSON. */
  readonly metadata: string
  readonly providers: readonly string[] | null
  readonly expiresInMs: number | null
}

export function parseSession(options: SessionOptions): ParsedSession {
  const parsed = parse(sessionOptions, options, 'invalid_session', 'The session')
  const { userId = null, agentId = null, metadata = '{}', providers = null, expiresInMs = null } = parsed
  return { userId, agentId, metadata, providers, expiresInMs }
}

export function parseProvider(provider: string): string {
  return parse(name, provider, 'invalid_session', 'The provider')
}

const sessionChanges = z.strictObject({
  userId: name.nullable().optional(),
  agentId: name.nullable().optional(),
  metadata: metadata.optional(),
  providers: providers.nullable().optional(),
  expiresInMs: milliseconds.nullable().optional(),
})

/** The changes as JSON, without the expiry, which the clock of the database decides. */
export function parseChanges(changes: SessionChanges): { json: string; expiresInMs: number | null | undefined } {
  const parsed = parse(sessionChanges, changes, 'invalid_session', 'The changes')
  const { expiresInMs, metadata, ...rest } = parsed
  const json = { ...rest, ...(metadata === undefined ? {} : { metadata: JSON.parse(metadata) }) }
  return { json: JSON.stringify(json), expiresInMs }
}

const uuid = z
  .string('is not a string')
  .regex(/^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i, 'is not a UUID')

export function parseId(id: string, what: string): string {
  return parse(uuid, id, 'invalid_argument', what)
}

export const limit = (standard: number) =>
  z.int('is not a whole number').min(1, 'is less than 1').max(1000, 'is more than 1000').default(standard)
export const cursor = z.string('is not a string').max(1000, 'is longer than a cursor is').optional()

const externalId = storableText(512)

export function parseExternalId(id: string): string {
  return parse(externalId, id, 'invalid_session', 'The id of the session')
}

const listOptions = z.strictObject({ userId: name.optional(), agentId: name.optional(), limit: limit(50), cursor })

export function parseSessionList(options: SessionListOptions) {
  return parse(listOptions, options, 'invalid_argument', 'The list')
}

const touchOptions = z.strictObject({ expiresInMs: milliseconds.optional() })

export function parseTouch(options: { readonly expiresInMs?: number | undefined }): number | undefined {
  return parse(touchOptions, options, 'invalid_argument', 'The touch').expiresInMs
}
