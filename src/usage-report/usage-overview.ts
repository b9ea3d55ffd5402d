import type { QuotaStatus } from '../budgets/budget-types.ts'
import { TenantInactiveError, TenantSuspendedError } from '../errors.ts'
import type { Rowhouse } from '../rowhouse.ts'
import { BILLED_STATUSES } from '../tenants/for-each-tenant.ts'
import type { Tenant, TenantStatus } from '../tenants/tenant.ts'
import { parseSpan } from '../usage/usage.ts'
import type { UsageDimension, UsageLine, UsageSpan } from '../usage/usage-types.ts'

/** The length of a period of the chart. */
export type OverviewPeriod = 'hour' | 'day' | 'month'

/** What one tenant used in a span of time. */
export interface TenantOverview {
  readonly tenantId: string
  /** Name for people. */
  readonly name: string
  /** Whether it works; one that is suspended is billed all the same. */
  readonly status: TenantStatus
  /** In which its days and months begin. */
  readonly timeZone: string
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

/** Reads the usage of all tenants one after another, also of suspended ones, or of one. */
export async function readUsageOverview(
  rowhouse: Rowhouse,
  { tenantId, ...given }: UsageSpan & { readonly tenantId?: string | undefined },
): Promise<UsageOverview> {
  const { from, to } = parseSpan(given)
  const days = (to.getTime() - from.getTime()) / DAY_MS
  const period: OverviewPeriod = days <= 3 ? 'hour' : days <= 100 ? 'day' : 'month'
  const read = async ({ id, name, status }: Pick<Tenant, 'id' | 'name' | 'status'>): Promise<TenantOverview> => {
    const report = (by: readonly UsageDimension[]) => rowhouse.tenant(id).usage.report({ from, to, by })
    const quotas = await rowhouse.tenant(id).budget.checkQuotas()
    return {
      tenantId: id,
      name,
      status,
      timeZone: await rowhouse.tenant(id).usage.timeZone(),
      totals: await report([]),
      lines: await report([period, 'model']),
      quotas: quotas.filter((quota): quota is QuotaStatus & { limit: number } => quota.limit !== undefined),
    }
  }
  const tenants: TenantOverview[] = []
  if (tenantId !== undefined) {
    tenants.push(await read(await findTenant(rowhouse, tenantId)))
  } else {
    for await (const tenant of rowhouse.tenants.all()) {
      if (BILLED_STATUSES.includes(tenant.status)) tenants.push(await read(tenant))
    }
  }
  const cost = ({ totals }: TenantOverview) => totals.reduce((sum, line) => sum + Number(line.cost), 0)
  const calls = ({ totals }: TenantOverview) => totals.reduce((sum, line) => sum + line.events, 0)
  tenants.sort((a, b) => cost(b) - cost(a) || calls(b) - calls(a) || (a.tenantId < b.tenantId ? -1 : 1))
  return { from, to, madeAt: new Date(), period, tenants }
}

/** As the tenant, because an operator is not needed for one; a suspended tenant is what only operators look at. */
async function findTenant(rowhouse: Rowhouse, id: string): Promise<Pick<Tenant, 'id' | 'name' | 'status'>> {
  try {
    const [row] = await rowhouse.query(id, (db) =>
      db.selectFrom('rowhouse.tenants').select('name').where('tenant_id', '=', id),
    )
    return { id, name: row?.name ?? id, status: 'active' }
  } catch (error) {
    if (!(error instanceof TenantSuspendedError || error instanceof TenantInactiveError)) throw error
    const tenant = await rowhouse.tenants.get(id)
    if (tenant === undefined || !BILLED_STATUSES.includes(tenant.status)) throw error
    return tenant
  }
}

/** What tenants used of units that have no column, by name. */
export function otherUnits(tenants: readonly TenantOverview[]): [unit: string, amount: number][] {
  const sums = new Map<string, number>()
  for (const { units } of tenants.flatMap(({ totals }) => totals)) {
    for (const [unit, amount] of Object.entries(units)) sums.set(unit, (sums.get(unit) ?? 0) + amount)
  }
  return [...sums].sort(([a], [b]) => (a < b ? -1 : 1))
}

/** The name of a tenant for people, and that it does not work. */
export function nameOf({ name, status }: TenantOverview): string {
  return status === 'active' ? name : `${name} (${status})`
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
  for (const { lines, timeZone } of overview.tenants) {
    for (const line of lines) {
      const at = line.periodStart && index.get(periodKey(line.periodStart, overview.period, timeZone))
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

/** The key of a period: its day or month in the time zone of the tenant; hours of tenants are compared in UTC. */
function periodKey(at: Date, period: OverviewPeriod, timeZone: string): string {
  if (period === 'hour') return at.toISOString().slice(0, 13)
  return dayFormat(timeZone)
    .format(at)
    .slice(0, period === 'day' ? 10 : 7)
}

const dayFormats = new Map<string, Intl.DateTimeFormat>()

/** Days as `2026-11-21`. */
function dayFormat(timeZone: string): Intl.DateTimeFormat {
  const known = dayFormats.get(timeZone)
  if (known !== undefined) return known
  const options = { year: 'numeric', month: '2-digit', day: '2-digit' } as const
  let format: Intl.DateTimeFormat
  try {
    format = new Intl.DateTimeFormat('en-CA', { ...options, timeZone })
  } catch {
    // A zone that the database knows, and this process does not.
    format = new Intl.DateTimeFormat('en-CA', { ...options, timeZone: 'UTC' })
  }
  dayFormats.set(timeZone, format)
  return format
}

/** The keys of all periods, from the first one that a tenant may have usage in, to the last. */
function periodsOf({ from, to, period, tenants }: UsageOverview): string[] {
  const last = new Date(Math.max(from.getTime(), Math.min(to.getTime(), Date.now() + 3_600_000) - 1))
  const zones = new Set(tenants.length === 0 ? ['UTC'] : tenants.map(({ timeZone }) => timeZone))
  const ends = [...zones].flatMap((zone) => [from, last].map((at) => periodKey(at, period, zone)))
  const used = tenants.flatMap(({ lines, timeZone }) =>
    lines.flatMap(({ periodStart }) => (periodStart === undefined ? [] : periodKey(periodStart, period, timeZone))),
  )
  const [first, end] = [...ends, ...used].reduce(
    ([least, most], key) => [key < least ? key : least, key > most ? key : most],
    [ends[0]!, ends[0]!],
  )
  const keys: string[] = []
  for (let key = first; key <= end; key = nextKey(key, period)) keys.push(key)
  return keys
}

function nextKey(key: string, period: OverviewPeriod): string {
  if (period === 'hour') return new Date(Date.parse(`${key}:00Z`) + 3_600_000).toISOString().slice(0, 13)
  if (period === 'day') return new Date(Date.parse(`${key}T00:00Z`) + DAY_MS).toISOString().slice(0, 10)
  return new Date(Date.UTC(Number(key.slice(0, 4)), Number(key.slice(5, 7)), 1)).toISOString().slice(0, 7)
}
