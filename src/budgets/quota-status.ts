import type { QuotaPeriod, QuotaStatus } from './budget-types.ts'

/** A row of `rowhouse.quota_status()`: numbers come as text, which keeps all their digits. */
export function toQuotaStatus(row: Record<string, unknown>): QuotaStatus {
  const optional = (value: unknown) => (value === null ? undefined : Number(value))
  return {
    name: row.name as string,
    metric: row.metric as string,
    period: row.period as QuotaPeriod,
    windowMs: optional(row.window_ms),
    source: row.source as QuotaStatus['source'],
    limit: optional(row.hard_limit),
    softLimit: optional(row.soft_limit),
    used: Number(row.used),
    reserved: Number(row.reserved),
    overrun: Number(row.overrun),
    free: optional(row.free),
    periodStart: row.period_start as Date,
    periodEnd: (row.period_end as Date | null) ?? undefined,
  }
}
