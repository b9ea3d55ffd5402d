import { escapeHtml, shorten } from './escape-html.ts'
import { formatMoney, formatMoneyTick, formatPercent, formatPeriod, niceTicks } from './format-number.ts'
import type { OverviewPeriod, SpendByModel } from './usage-overview.ts'

const WIDTH = 960
const HEIGHT = 320
const LEFT = 72
const RIGHT = 8
const TOP = 14
const BOTTOM = 40
/** Room for a label on the axis of time. */
const LABEL_WIDTH = 64

/** Cost by model over time: stacked columns as SVG, the legend with the sum of each model, and the numbers as a table. */
export function spendChart(spend: SpendByModel, currency: string, period: OverviewPeriod): string {
  const { periods, models, total, count } = spend
  const sums = periods.map((_, at) => models.reduce((sum, { costs }) => sum + costs[at]!, 0))
  const ticks = niceTicks(Math.max(...sums))
  const step = ticks[1]!
  const scale = (HEIGHT - TOP - BOTTOM) / ticks.at(-1)!
  const y = (amount: number) => HEIGHT - BOTTOM - amount * scale
  const slot = (WIDTH - LEFT - RIGHT) / periods.length
  const column = Math.max(1, Math.min(48, slot * 0.72))
  const x = (at: number) => LEFT + slot * at + (slot - column) / 2

  const grid = ticks.map(
    (tick) =>
      `<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${px(y(tick))}" y2="${px(y(tick))}"/>` +
      `<text class="tick" x="${LEFT - 8}" y="${px(y(tick) + 4)}" text-anchor="end">${escapeHtml(formatMoneyTick(tick, currency, step))}</text>`,
  )
  const every = Math.max(1, Math.ceil((LABEL_WIDTH * (period === 'hour' ? 1.4 : 1)) / slot))
  const labels = periods.flatMap((key, at) =>
    at % every === 0
      ? `<text class="tick" x="${px(LEFT + slot * (at + 0.5))}" y="${HEIGHT - 10}" text-anchor="middle">${formatPeriod(key, period)}</text>`
      : [],
  )
  const columns = periods.flatMap((key, at) => {
    let reached = 0
    const parts = models.flatMap(({ costs }, number) => {
      const cost = costs[at]!
      if (cost <= 0) return []
      const top = y(reached + cost)
      const height = y(reached) - top
      reached += cost
      return `<rect class="c${number + 1}" x="${px(x(at))}" y="${px(top)}" width="${px(column)}" height="${px(height)}"/>`
    })
    if (parts.length === 0) return []
    const hover = [
      `${formatPeriod(key, period)}: ${formatMoney(reached, currency)}`,
      ...models.flatMap(({ model, costs }) =>
        costs[at]! > 0 ? `${shorten(model, 40)}: ${formatMoney(costs[at]!, currency)}` : [],
      ),
    ].join('\n')
    return `<g class="column"><title>${escapeHtml(hover)}</title>${parts.join('')}</g>`
  })
  const largest = sums.indexOf(Math.max(...sums))
  const summary =
    `${formatMoney(total, currency)} in all, ${count === 1 ? 'one model' : `${count} models`}; most on ` +
    `${formatPeriod(periods[largest]!, period)}, ${formatMoney(sums[largest]!, currency)}.`
  const legend = models.map(
    ({ model, total: ofModel }, number) =>
      `<li><span class="swatch c${number + 1}"></span><span class="name" title="${escapeHtml(model)}">${escapeHtml(model)}</span>` +
      `<span class="amount">${escapeHtml(formatMoney(ofModel, currency))}</span>` +
      `<span class="share">${total > 0 ? formatPercent(ofModel / total) : ''}</span></li>`,
  )
  return `<figure>
<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escapeHtml(`Spend by model and ${period}: ${summary}`)}">
${grid.join('\n')}
${labels.join('\n')}
${columns.join('\n')}
<line class="axis" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${px(y(0))}" y2="${px(y(0))}"/>
</svg>
<ul class="legend">${legend.join('')}</ul>
<figcaption>${escapeHtml(summary)} Each column is ${period === 'hour' ? 'an hour' : `a ${period}`}, in ${escapeHtml(currency)}.</figcaption>
</figure>
${numbers(spend, currency, period)}`
}

/** The same as numbers, for those who don't see the chart, or want to copy them. */
function numbers({ periods, models }: SpendByModel, currency: string, period: OverviewPeriod): string {
  const head = models.map(
    ({ model }) => `<th scope="col" title="${escapeHtml(model)}">${escapeHtml(shorten(model, 24))}</th>`,
  )
  const rows = periods.map(
    (key, at) =>
      `<tr><th scope="row">${formatPeriod(key, period)}</th>${models.map(({ costs }) => `<td>${escapeHtml(formatMoney(costs[at]!, currency))}</td>`).join('')}</tr>`,
  )
  return `<details><summary>The numbers</summary><div class="scroll"><table><thead><tr><th scope="col">${period}</th>${head.join('')}</tr></thead><tbody>${rows.join('')}</tbody></table></div></details>`
}

function px(value: number): string {
  return String(Math.round(value * 100) / 100)
}
