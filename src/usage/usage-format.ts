import type { UsageEvent, UsageFormat } from './usage-types.ts'

const COLUMNS = [
  'tenantId',
  'requestId',
  'part',
  'kind',
  'model',
  'provider',
  'userId',
  'units',
  'cost',
  'currency',
  'occurredAt',
  'recordedAt',
  'latencyMs',
  'metadata',
] as const

/** The first line of a format, if it has one. */
export function headerOf(format: UsageFormat): string | undefined {
  return format === 'csv' ? COLUMNS.join(',') : undefined
}

/** An event as a line, without its end. */
export function formatEvent(format: UsageFormat, tenantId: string, event: UsageEvent): string {
  return format === 'csv' ? toCsv({ tenantId, ...event }) : toCloudEvent(tenantId, event)
}

function toCsv(event: UsageEvent & { readonly tenantId: string }): string {
  return COLUMNS.map((column) => {
    const value = event[column]
    if (value === null) return ''
    if (value instanceof Date) return value.toISOString()
    return quote(typeof value === 'object' ? JSON.stringify(value) : String(value))
  }).join(',')
}

/** By RFC 4180. A cell that a spreadsheet would take for a formula, also behind white space, begins with an apostrophe. */
function quote(text: string): string {
  const harmless = /^\s*[=+\-@]|^[\t\r]/.test(text) && !/^-?[\d.]+$/.test(text) ? `'${text}` : text
  return /[",\r\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless
}

/** Attributes of CloudEvents hold no control characters; nor `#` here, which parts an id. */
function encodeAttribute(text: string): string {
  return text.replace(/[\p{Cc}\p{Noncharacter_Code_Point}%#]/gu, encodeURIComponent)
}

function toCloudEvent(tenantId: string, { kind, userId, occurredAt, ...data }: UsageEvent): string {
  const { requestId, part } = data
  return JSON.stringify({
    specversion: '1.0',
    id: part === '' ? encodeAttribute(requestId) : `${encodeAttribute(requestId)}#${encodeAttribute(part)}`,
    source: `/rowhouse/tenants/${tenantId}`,
    type: `rowhouse.usage.${kind}`,
    time: occurredAt.toISOString(),
    ...(userId === null || userId === '' ? {} : { subject: encodeAttribute(userId) }),
    datacontenttype: 'application/json',
    data,
  })
}
