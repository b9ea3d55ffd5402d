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

/** By RFC 4180. A cell that a spreadsheet would take for a formula begins with an apostrophe. */
function quote(text: string): string {
  const harmless = /^[=+\-@\t\r]/.test(text) && !/^-?[\d.]+$/.test(text) ? `'${text}` : text
  return /[",\r\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless
}

function toCloudEvent(tenantId: string, { requestId, part, kind, userId, occurredAt, ...data }: UsageEvent): string {
  return JSON.stringify({
    specversion: '1.0',
    id: part === '' ? requestId : `${requestId}#${part}`,
    source: `/rowhouse/tenants/${tenantId}`,
    type: `rowhouse.usage.${kind}`,
    time: occurredAt.toISOString(),
    ...(userId === null ? {} : { subject: userId }),
    datacontenttype: 'application/json',
    data,
  })
}
