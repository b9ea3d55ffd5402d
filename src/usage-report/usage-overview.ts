import type { QuotaStatus } from '../budgets/budget-types.ts'
import type { Rowhouse } from '../rowhouse.ts'
import { parseSpan } from '../usage/usage.ts'
import type { UsageDimension, UsageLine, UsageSpan } from '../usage/usage-types.ts'

/** The length of a period of the chart. */
export type OverviewPeriod = 'hour' | 'day' | 'month'

/** What one tenant used in a span of time. */
export interface TenantOverview {
  readonly tenantId: string
  /** Name for people. */
  readonly name: string
  /** One for each currency; none without usage. */
  readonly totals: readonly UsageLine[]
  /** By model and period. */
  readonly lines: readonly UsageLine[]
  /** As they stand now; those without a limit are left out. */
  readonly quotas: readonly (QuotaStatus & { readonly limit: number })[]
}

/** What is charted. */
export interface UsageOverview {
  readonly from: Date
  readonly to: Date
  readonly madeAt: Date
  readonly period: OverviewPeriod
  /** Those that cost most first. */
  readonly tenants: readonly TenantOverview[]
}

const DAY_MS = 86_400_000

/** Reads the usage of all active tenants one after another, or of one. */
export async function readUsageOverview(
  rowhouse: Rowhouse,
  { tenantId, ...given }: UsageSpan & { readonly tenantId?: string | undefined },
): Promise<UsageOverview> {
  const { from, to } = parseSpan(given)
  const days = (to.getTime() - from.getTime()) / DAY_MS
  const period: OverviewPeriod = days <= 3 ? 'hour' : days <= 100 ? 'day' : 'month'
  const read = async (id: string, name: string): Promise<TenantOverview> => {
    const report = (by: readonly UsageDimension[]) => rowhouse.tenant(id).usage.report({ from, to, by })
    const quotas = await rowhouse.tenant(id).budget.checkQuotas()
    return {
      tenantId: id,
      name,
      totals: await report([]),
      lines: await report([period, 'model']),
      quotas: quotas.filter((quota): quota is QuotaStatus & { limit: number } => quota.limit !== undefined),
    }
  }
  const tenants: TenantOverview[] = []
  if (tenantId !== undefined) {
    const [row] = await rowhouse.query(tenantId, (db) =>
      db.selectFrom('rowhouse.tenants').select('name').where('tenant_id', '=', tenantId),
    )
    tenants.push(await read(tenantId, row?.name ?? tenantId))
  } else {
    for await (const { id, name } of rowhouse.tenants.all({ status: 'active' })) tenants.push(await read(id, name))
  }
  const cost = ({ totals }: TenantOverview) => totals.reduce((sum, line) => sum + Number(line.cost), 0)
  const calls = ({ totals }: TenantOverview) => totals.reduce((sum, line) => sum + line.events, 0)
  tenants.sort((a, b) => cost(b) - cost(a) || calls(b) - calls(a) || (a.tenantId < b.tenantId ? -1 : 1))
  return { from, to, madeAt: new Date(), period, tenants }
}

/** The currencies of an overview, that of most tenants first. */
export function currenciesOf({ tenants }: UsageOverview): string[] {
  const counts = new Map<string, number>()
  for (const { currency } of tenants.flatMap(({ totals }) => totals))
    counts.set(currency, (counts.get(currency) ?? 0) + 1)
  return [...counts].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1)).map(([currency]) => currency)
}

/** Cost by model and period, of all tenants together. */
export interface SpendByModel {
  /** Keys of all periods of the span, such as `2026-11-21`. */
  readonly periods: readonly string[]
  /** Those that cost most first; more than can be told apart are `other`. */
  readonly models: readonly { readonly model: string; readonly total: number; readonly costs: readonly number[] }[]
  readonly total: number
  /** How many models there are, also in `other`. */
  readonly count: number
}

/** Series that can be told apart. */
const MOST_MODELS = 6

export function spendByModel(overview: UsageOverview, currency: string): SpendByModel {
  const periods = periodsOf(overview)
  const index = new Map(periods.map((key, number) => [key, number]))
  const costs = new Map<string, number[]>()
  for (const { lines } of overview.tenants) {
    for (const line of lines) {
      const at = line.periodStart && index.get(periodKey(line.periodStart, overview.period))
      if (line.currency !== currency || at === undefined) continue
      const model = line.model === undefined || line.model === '' ? 'no model' : line.model
      const ofModel = costs.get(model) ?? periods.map(() => 0)
      ofModel[at]! += Number(line.cost)
      costs.set(model, ofModel)
    }
  }
  const sum = (all: readonly number[]) => all.reduce((total, cost) => total + cost, 0)
  const models = [...costs]
    .map(([model, ofModel]) => ({ model, total: sum(ofModel), costs: ofModel }))
    .sort((a, b) => b.total - a.total || (a.model < b.model ? -1 : 1))
  const shown = models.length > MOST_MODELS ? models.slice(0, MOST_MODELS - 1) : models
  const rest = models.slice(shown.length)
  if (rest.length > 0) {
    const together = periods.map((_, at) => sum(rest.map((model) => model.costs[at]!)))
    shown.push({ model: `${rest.length} other models`, total: sum(together), costs: together })
  }
  return { periods, models: shown, total: sum(models.map(({ total }) => total)), count: models.length }
}

/** The key of a period. Days and months begin in the time zone of a tenant: its middle is what counts. */
function periodKey(start: Date, period: OverviewPeriod): string {
  if (period === 'hour') return start.toISOString().slice(0, 13)
  const middle = new Date(start.getTime() + (period === 'day' ? DAY_MS / 2 : 15 * DAY_MS)).toISOString()
  return middle.slice(0, period === 'day' ? 10 : 7)
}

function periodsOf({ from, to, period }: UsageOverview): string[] {
  const keys: string[] = []
  const last = new Date(Math.max(from.getTime(), Math.min(to.getTime(), Date.now() + 3_600_000) - 1))
  if (period === 'month') {
    const month = new Date(Date.UTC(from.getUTCFullYear(), from.getUTCMonth(), 1))
    for (; month <= last; month.setUTCMonth(month.getUTCMonth() + 1)) keys.push(month.toISOString().slice(0, 7))
    return keys
  }
  const step = period === 'hour' ? 3_600_000 : DAY_MS
  const length = period === 'hour' ? 13 : 10
  for (let at = Math.floor(from.getTime() / step) * step; at <= last.getTime(); at += step) {
    keys.push(new Date(at).toISOString().slice(0, length))
  }
  return keys
}
