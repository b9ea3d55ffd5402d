import * as z from 'zod'
import { parse } from '../documents/parse-documents.ts'
import { storableJson, storableText } from '../documents/parse-text.ts'
import { jsonbBytes } from './jsonb-bytes.ts'

/** What happened: the fields of an AI response trail, of which only `action` is required. */
export interface AuditEntryInput {
  /** What was done: small letters, digits, `_ . : -`, for example `chat.respond`. `rowhouse.` is taken. */
  readonly action: string
  /** When it happened. Default: now. */
  readonly occurredAt?: Date | undefined
  /** Who acted. Default: the `userId` of the context. */
  readonly userId?: string | undefined
  /** Default: the `requestId` of the context. */
  readonly requestId?: string | undefined
  /** The model that answered. */
  readonly model?: string | undefined
  readonly inputTokens?: number | undefined
  readonly outputTokens?: number | undefined
  /** In the currency of your prices. As a string, a decimal number of any precision. */
  readonly cost?: number | string | undefined
  /** Ids of the documents that were read, up to 1000. */
  readonly documents?: readonly string[] | undefined
  /** Milliseconds; rounded to whole ones. */
  readonly latencyMs?: number | undefined
  /** Why it failed. */
  readonly error?: string | undefined
  /** Anything else, up to 256 KB as JSON. */
  readonly detail?: Readonly<Record<string, unknown>> | undefined
}

/** An entry of the trail, as the database keeps it. */
export interface AuditEntry {
  readonly tenantId: string
  /** Ordered by time. */
  readonly id: string
  /** When the database wrote it. */
  readonly recordedAt: Date
  /** When it happened, as the application said. */
  readonly occurredAt: Date
  /** The login that wrote it. */
  readonly login: string
  readonly userId: string | null
  readonly requestId: string | null
  readonly action: string
  readonly model: string | null
  readonly inputTokens: number | null
  readonly outputTokens: number | null
  /** A decimal number. */
  readonly cost: string | null
  readonly documents: readonly string[] | null
  readonly latencyMs: number | null
  readonly error: string | null
  readonly detail: Readonly<Record<string, unknown>>
}

/** The row of an entry, as pg returns it. */
export interface AuditEntryRow {
  readonly tenant_id: string
  readonly entry_id: string
  readonly recorded_at: Date
  readonly occurred_at: Date
  readonly login: string
  readonly user_id: string | null
  readonly request_id: string | null
  readonly action: string
  readonly model: string | null
  readonly input_tokens: string | null
  readonly output_tokens: string | null
  readonly cost: string | null
  readonly documents: string[] | null
  readonly latency_ms: string | null
  readonly error: string | null
  readonly detail: Record<string, unknown>
  readonly salt: string
}

export function toAuditEntry(row: AuditEntryRow): AuditEntry {
  const toNumber = (value: string | null) => (value === null ? null : Number(value))
  return {
    tenantId: row.tenant_id,
    id: row.entry_id,
    recordedAt: row.recorded_at,
    occurredAt: row.occurred_at,
    login: row.login,
    userId: row.user_id,
    requestId: row.request_id,
    action: row.action,
    model: row.model,
    inputTokens: toNumber(row.input_tokens),
    outputTokens: toNumber(row.output_tokens),
    cost: row.cost,
    documents: row.documents,
    latencyMs: toNumber(row.latency_ms),
    error: row.error,
    detail: row.detail,
  }
}

const count = z.int('is not a whole number').min(0, 'is negative')

/** What the database accepts of `detail`, by the text that it makes of it. */
const MAXIMUM_DETAIL_BYTES = 262_144

const detail = z
  .record(z.string(), z.unknown(), 'is not an object')
  .pipe(storableJson() as z.ZodType<string, Record<string, unknown>>)
  .refine(
    (json) => Buffer.byteLength(json) <= MAXIMUM_DETAIL_BYTES && jsonbBytes(json) <= MAXIMUM_DETAIL_BYTES,
    `has more than ${MAXIMUM_DETAIL_BYTES} bytes as JSON`,
  )

const auditEntry = z.strictObject({
  action: z
    .string('is not a string')
    .regex(/^[a-z][a-z0-9_.:-]{0,99}$/, 'is not 1 to 100 small letters, digits, or _ . : - that begin with a letter')
    .refine((action) => !action.startsWith('rowhouse.'), 'begins with rowhouse., which only rowhouse itself records'),
  occurredAt: z
    .date('is not a date')
    .min(new Date('0001-01-01T00:00:00Z'), 'is before the year 1')
    .max(new Date('9999-12-31T23:59:59.999Z'), 'is after the year 9999')
    .optional(),
  userId: storableText(200).optional(),
  requestId: storableText(200).optional(),
  model: storableText(200).optional(),
  inputTokens: count.optional(),
  outputTokens: count.optional(),
  cost: z
    .custom<number | string>(
      (value) =>
        typeof value === 'number'
          ? Number.isFinite(value)
          : typeof value === 'string' && /^-?\d{1,30}(\.\d{1,30})?$/.test(value),
      'is neither a finite number nor a decimal number as text',
    )
    .optional(),
  documents: z.array(storableText(300), 'is not an array').max(1000, 'has more than 1000 ids').optional(),
  latencyMs: z
    .number('is not a finite number')
    .min(0, 'is negative')
    .max(Number.MAX_SAFE_INTEGER, 'is too large')
    .transform(Math.round)
    .optional(),
  error: storableText(4000).optional(),
  detail: detail.optional(),
})

/** An entry that was checked, as JSON. */
export type SerializedEntry = string

/** Checks entries before anything is sent: all that the database would refuse of an entry is refused here. */
export function serializeEntries(entries: readonly AuditEntryInput[]): SerializedEntry[] {
  return entries.map((entry, index) => {
    const which = entries.length === 1 ? 'The audit entry' : `Audit entry ${index + 1} of ${entries.length}`
    const { detail, ...fields } = parse(auditEntry, entry, 'invalid_audit_entry', which)
    const text = JSON.stringify(fields)
    return detail === undefined ? text : `${text.slice(0, -1)},"detail":${detail}}`
  })
}
