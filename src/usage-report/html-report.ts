import { escapeHtml } from './escape-html.ts'
import { formatCount, formatDay, formatMilliseconds, formatMoney } from './format-number.ts'
import { REPORT_STYLE } from './report-style.ts'
import { spendChart } from './spend-chart.ts'
import { allTenants, latencyByTenant, quotaUtilization, spendByTenant } from './tenant-charts.ts'
import { currenciesOf, spendByModel, type UsageOverview } from './usage-overview.ts'

/** The usage of tenants as one HTML file: charts as SVG, light and dark, without a script and without anything to load. */
export function usageHtml(overview: UsageOverview): string {
  const { from, to, madeAt, tenants } = overview
  const span = `${formatDay(from)} – ${formatDay(to > madeAt ? madeAt : to)}`
  const title = tenants.length === 1 ? `Usage and cost of ${tenants[0]!.name}` : 'Usage and cost'
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>${escapeHtml(title)}, ${span}</title>
<style>${REPORT_STYLE}</style>
</head>
<body>
<main>
<header><h1>${escapeHtml(title)}</h1><p>${span}</p></header>
${content(overview)}
<footer>Made ${madeAt.toISOString().slice(0, 16).replace('T', ' ')} UTC by rowhouse. Days are those of each tenant's time zone; latencies are upper bounds, at most 9 % above.</footer>
</main>
</body>
</html>
`
}

function content(overview: UsageOverview): string {
  const { tenants } = overview
  const currencies = currenciesOf(overview)
  if (currencies.length === 0) {
    const whose = tenants.length === 0 ? 'There is no tenant.' : 'No call was settled in this time.'
    return `<section class="empty"><h2>No usage</h2><p>${whose} Calls that a budget settles are here by themselves; others are recorded with usage.record.</p></section>
${tenants.length === 0 ? '' : quotaUtilization(overview)}`
  }
  return [
    tiles(overview, currencies),
    ...currencies.map((currency) => {
      const where = currencies.length > 1 ? ` in ${escapeHtml(currency)}` : ''
      return `<section><h2>Spend by model over time${where}</h2>${spendChart(spendByModel(overview, currency), currency, overview.period)}</section>`
    }),
    ...(tenants.length > 1 ? currencies.map((currency) => spendByTenant(overview, currency)) : []),
    latencyByTenant(overview),
    quotaUtilization(overview),
    allTenants(overview),
  ].join('\n')
}

function tiles({ tenants }: UsageOverview, currencies: readonly string[]): string {
  const lines = tenants.flatMap(({ totals }) => totals)
  const sum = (of: (line: (typeof lines)[number]) => number) => lines.reduce((total, line) => total + of(line), 0)
  const slowest = Math.max(0, ...lines.map(({ p99Ms }) => p99Ms ?? 0))
  const facts: [string, string][] = [
    ...currencies.map((currency): [string, string] => [
      currencies.length > 1 ? `spent in ${currency}` : 'spent',
      formatMoney(
        sum((line) => (line.currency === currency ? Number(line.cost) : 0)),
        currency,
      ),
    ]),
    ['calls', formatCount(sum(({ events }) => events))],
    ['tokens', formatCount(sum(({ tokens }) => tokens))],
    ['slowest p99', slowest > 0 ? formatMilliseconds(slowest) : '–'],
  ]
  const using = tenants.filter(({ totals }) => totals.length > 0).length
  if (tenants.length > 1) facts.push(['tenants with usage', formatCount(using)])
  return `<dl class="tiles">${facts.map(([name, value]) => `<div><dt>${escapeHtml(name)}</dt><dd>${escapeHtml(value)}</dd></div>`).join('')}</dl>`
}
