import type { Style } from '../cli/output.ts'
import { formatTable } from '../cli/table.ts'
import { shorten } from './escape-html.ts'
import {
  formatCount,
  formatDay,
  formatMilliseconds,
  formatMoney,
  formatPercent,
  formatPeriod,
} from './format-number.ts'
import {
  currenciesOf,
  nameOf,
  otherUnits,
  spendByModel,
  type TenantOverview,
  type UsageOverview,
} from './usage-overview.ts'

export interface TerminalOptions {
  /** Columns of the terminal. */
  readonly width: number
  /** Applies a style, or returns the text unchanged where colours aren't wanted. */
  readonly style: (style: Style, text: string) => string
}

const EIGHTHS = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉']
const LEVELS = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█']
/** Tenants that are shown; the other formats have all. */
const MOST_TENANTS = 20

/** The usage of tenants as lines of text, with bars. */
export function usageLines(overview: UsageOverview, options: TerminalOptions): string[] {
  const width = Math.min(Math.max(options.width, 40), 120)
  const { style } = options
  const { from, to, madeAt, tenants } = overview
  const lines = [style('bold', `Usage and cost, ${formatDay(from)} to ${formatDay(to > madeAt ? madeAt : to)}`)]
  const currencies = currenciesOf(overview)
  if (currencies.length === 0)
    return [...lines, '', tenants.length === 0 ? 'There is no tenant.' : 'No call was settled in this time.']
  for (const currency of currencies) {
    const { models, periods, total } = spendByModel(overview, currency)
    lines.push('', style('bold', `Spend by model: ${formatMoney(total, currency)}`))
    const labelled = models.map((model) => ({
      label: model.model,
      value: model.total,
      text: `${formatMoney(model.total, currency)} ${formatPercent(model.total / total)}`,
    }))
    lines.push(...bars(labelled, width, style))
    const sums = periods.map((_, at) => models.reduce((sum, { costs }) => sum + costs[at]!, 0))
    const shown = sums.slice(-(width - 2))
    const first = periods[periods.length - shown.length]!
    const largest = sums.indexOf(Math.max(...sums))
    lines.push(
      '',
      style('bold', `Spend by ${overview.period}`),
      `  ${sparkline(shown)}`,
      style(
        'dim',
        `  ${formatPeriod(first, overview.period)} to ${formatPeriod(periods.at(-1)!, overview.period)}; most on ${formatPeriod(periods[largest]!, overview.period)}, ${formatMoney(sums[largest]!, currency)}`,
      ),
    )
  }
  const shown = tenants.slice(0, MOST_TENANTS)
  lines.push(
    '',
    style(
      'bold',
      tenants.length > MOST_TENANTS ? `The ${MOST_TENANTS} of ${tenants.length} tenants that spent most` : 'Tenants',
    ),
  )
  const rows = shown.map((tenant) => [
    `  ${printable(shorten(nameOf(tenant), Math.max(12, width - 56)))}`,
    right(tenant.totals.map((line) => formatMoney(Number(line.cost), line.currency)).join(' + ') || '–', 12),
    right(formatCount(sum(tenant, ({ events }) => events)), 7),
    right(formatCount(sum(tenant, ({ tokens }) => tokens)), 7),
    right(p99(tenant) > 0 ? formatMilliseconds(p99(tenant)) : '–', 8),
    nearest(tenant, style),
  ])
  const [head = '', ...body] = formatTable(
    ['  tenant', right('cost', 12), right('calls', 7), right('tokens', 7), right('p99', 8), 'nearest limit'],
    rows,
  )
  const others = otherUnits(tenants).map(([unit, amount]) => `  ${unit}: ${formatCount(amount)}`)
  const more = others.length > 0 ? ['', style('bold', 'Other units'), ...others] : []
  return [...lines, style('dim', head), ...body, ...more]
}

function bars(
  rows: readonly { readonly label: string; readonly value: number; readonly text: string }[],
  width: number,
  style: TerminalOptions['style'],
): string[] {
  const texts = Math.max(...rows.map(({ text }) => text.length))
  const labels = Math.min(Math.max(...rows.map(({ label }) => [...label].length)), Math.floor(width / 3))
  const room = Math.max(4, width - labels - texts - 6)
  const largest = Math.max(...rows.map(({ value }) => value))
  return rows.map(
    ({ label, value, text }) =>
      `  ${printable(shorten(label, labels)).padEnd(labels)}  ${style('green', bar(largest > 0 ? value / largest : 0, room))}  ${text}`,
  )
}

/** A bar with an accuracy of an eighth of a column, filled up to the room with spaces. */
function bar(share: number, room: number): string {
  const eighths = Math.max(share > 0 ? 1 : 0, Math.round(share * room * 8))
  return `${'█'.repeat(Math.floor(eighths / 8))}${EIGHTHS[eighths % 8]}`.padEnd(room)
}

function sparkline(values: readonly number[]): string {
  const largest = Math.max(...values)
  return values.map((value) => (value === 0 ? ' ' : LEVELS[Math.min(7, Math.floor((value / largest) * 8))])).join('')
}

/** The quota of which most is used. */
function nearest({ quotas }: TenantOverview, style: TerminalOptions['style']): string {
  const [most] = quotas
    .map(({ name, used, reserved, overrun, limit }) => ({
      name,
      part: limit > 0 ? (used + reserved + overrun) / limit : 0,
    }))
    .sort((a, b) => b.part - a.part)
  if (most === undefined) return '–'
  const text = `${'█'.repeat(Math.min(5, Math.ceil(most.part * 5))).padEnd(5, '░')} ${formatPercent(most.part)} ${most.name}`
  return most.part >= 1 ? style('red', text) : most.part >= 0.8 ? style('yellow', text) : text
}

function sum({ totals }: TenantOverview, of: (line: TenantOverview['totals'][number]) => number): number {
  return totals.reduce((total, line) => total + of(line), 0)
}

function p99({ totals }: TenantOverview): number {
  return Math.max(0, ...totals.map(({ p99Ms }) => p99Ms ?? 0))
}

function right(text: string, width: number): string {
  return text.padStart(width)
}

/** Names are chosen by people: what would move the cursor is left out. */
function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}]/gu, '')
}
