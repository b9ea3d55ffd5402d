import { escapeHtml } from './escape-html.ts'
import {
  formatCount,
  formatMilliseconds,
  formatMillisecondsTick,
  formatMoney,
  formatMoneyTick,
  formatPercent,
  niceTicks,
} from './format-number.ts'
import { nameOf, otherUnits, type TenantOverview, type UsageOverview } from './usage-overview.ts'

/** Bars of a chart; the table has all tenants. */
const MOST_BARS = 15

interface Bar {
  readonly tenant: TenantOverview
  readonly value: number
  readonly text: string
}

/** What tenants spent, those that spent most first. */
export function spendByTenant({ tenants }: UsageOverview, currency: string): string {
  const bars = tenants.flatMap((tenant): Bar[] => {
    const value = tenant.totals.reduce((sum, line) => sum + (line.currency === currency ? Number(line.cost) : 0), 0)
    return value > 0 ? [{ tenant, value, text: formatMoney(value, currency) }] : []
  })
  if (bars.length === 0) return ''
  bars.sort((a, b) => b.value - a.value)
  return section(
    'Spend by tenant',
    barChart(bars, (tick, step) => formatMoneyTick(tick, currency, step)),
    note(bars.length, 'spent most'),
  )
}

/** How long the slowest one of a hundred calls took, of each tenant; the slowest first. */
export function latencyByTenant({ tenants }: UsageOverview): string {
  const bars = tenants.flatMap((tenant): Bar[] => {
    const value = Math.max(0, ...tenant.totals.map(({ p99Ms }) => p99Ms ?? 0))
    return value > 0 ? [{ tenant, value, text: formatMilliseconds(value) }] : []
  })
  if (bars.length === 0) return ''
  bars.sort((a, b) => b.value - a.value)
  return section(
    tenants.length === 1 ? 'p99 latency' : 'p99 latency by tenant',
    barChart(bars, formatMillisecondsTick),
    `99 of 100 calls were at least as fast. ${note(bars.length, 'were slowest')}`,
  )
}

/** How much of each quota is used and reserved, of those tenants that are nearest to a limit. */
export function quotaUtilization({ tenants }: UsageOverview): string {
  const names = [...new Set(tenants.flatMap(({ quotas }) => quotas.map(({ name }) => name)))].sort()
  if (names.length === 0) return ''
  const rows = tenants
    .map((tenant) => ({ tenant, most: Math.max(0, ...tenant.quotas.map(part)) }))
    .sort((a, b) => b.most - a.most)
    .slice(0, MOST_BARS)
    .map(({ tenant }) => `<tr>${nameCell(tenant)}${names.map((name) => quotaCell(tenant, name)).join('')}</tr>`)
  const head = names.map((name) => `<th scope="col">${escapeHtml(name.replaceAll('_', ' '))}</th>`)
  return section(
    'Quota utilization',
    `<div class="scroll"><table class="quotas"><thead><tr><th scope="col">tenant</th>${head.join('')}</tr></thead><tbody>${rows.join('')}</tbody></table></div>`,
    `Used and reserved of each limit, now; from 80 % on it is marked. ${note(tenants.length, 'are nearest to a limit')}`,
  )
}

/** Everything about every tenant, as a table. */
export function allTenants({ tenants }: UsageOverview): string {
  const others = otherUnits(tenants).map(([unit]) => unit)
  const rows = tenants.map((tenant) => {
    const sum = (of: (line: TenantOverview['totals'][number]) => number) =>
      formatCount(tenant.totals.reduce((total, line) => total + of(line), 0))
    const cost = tenant.totals.map((line) => formatMoney(Number(line.cost), line.currency)).join(' + ')
    const p99 = Math.max(0, ...tenant.totals.map(({ p99Ms }) => p99Ms ?? 0))
    return `<tr>${nameCell(tenant)}<td>${escapeHtml(cost === '' ? '–' : cost)}</td><td>${sum((line) => line.events)}</td><td>${sum((line) => line.tokens)}</td><td>${sum((line) => line.inputTokens)}</td><td>${sum((line) => line.outputTokens)}</td><td>${p99 > 0 ? formatMilliseconds(p99) : '–'}</td>${others.map((unit) => `<td>${sum((line) => line.units[unit] ?? 0)}</td>`).join('')}</tr>`
  })
  const head = ['tenant', 'cost', 'calls', 'tokens', 'input tokens', 'output tokens', 'p99', ...others.map(escapeHtml)]
  const table = `<div class="scroll"><table><thead><tr>${head.map((name) => `<th scope="col">${name}</th>`).join('')}</tr></thead><tbody>${rows.join('')}</tbody></table></div>`
  return `<section><h2>${tenants.length === 1 ? 'In all' : 'All tenants'}</h2><details${tenants.length <= MOST_BARS ? ' open' : ''}><summary>${tenants.length === 1 ? 'One tenant' : `${tenants.length} tenants`}</summary>${table}</details></section>`
}

function barChart(bars: readonly Bar[], format: (tick: number, step: number) => string): string {
  const ticks = niceTicks(bars[0]!.value, 4)
  const end = ticks.at(-1)!
  const rows = bars
    .slice(0, MOST_BARS)
    .map(
      ({ tenant, value, text }) =>
        `<li>${nameSpan(tenant)}<span class="track"><span class="bar" style="width:${percent(value / end)}"></span><span class="value">${escapeHtml(text)}</span></span></li>`,
    )
  const axis = ticks.map(
    (tick) => `<span style="left:${percent(tick / end)}">${escapeHtml(format(tick, ticks[1]!))}</span>`,
  )
  return `<ol class="bars">${rows.join('')}<li class="scale" aria-hidden="true"><span></span><span class="track">${axis.join('')}</span></li></ol>`
}

function part({ used, reserved, overrun, limit }: TenantOverview['quotas'][number]): number {
  return limit === 0 ? (used + reserved + overrun > 0 ? 1 : 0) : (used + reserved + overrun) / limit
}

function quotaCell(tenant: TenantOverview, name: string): string {
  const quota = tenant.quotas.find((candidate) => candidate.name === name)
  if (quota === undefined) return '<td>no limit</td>'
  const used = part(quota)
  const level = used >= 1 ? 'full' : used >= 0.8 ? 'near' : 'free'
  const mark = used >= 1 ? ' ●' : used >= 0.8 ? ' ▲' : ''
  const all = `${formatCount(quota.used + quota.reserved + quota.overrun)} of ${formatCount(quota.limit)}`
  return `<td class="${level}" title="${escapeHtml(all)}"><span class="meter"><span style="width:${percent(Math.min(1, used))}"></span></span><span class="percent">${formatPercent(used)}${mark}</span><span class="of">${escapeHtml(all)}</span></td>`
}

function nameCell(tenant: TenantOverview): string {
  return `<th scope="row">${nameSpan(tenant)}</th>`
}

function nameSpan(tenant: TenantOverview): string {
  const { tenantId, name } = tenant
  const both = name === tenantId ? name : `${name} (${tenantId})`
  return `<span class="name" title="${escapeHtml(both)}">${escapeHtml(nameOf(tenant))}</span>`
}

function note(tenants: number, which: string): string {
  return tenants > MOST_BARS ? `The ${MOST_BARS} of ${tenants} tenants that ${which}.` : ''
}

function section(title: string, body: string, text: string): string {
  return `<section><h2>${title}</h2>${text === '' ? '' : `<p class="note">${text}</p>`}${body}</section>`
}

function percent(share: number): string {
  return `${Math.round(share * 10_000) / 100}%`
}
