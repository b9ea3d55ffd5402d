import type { OverviewPeriod } from './usage-overview.ts'

const WHOLE = { minimumFractionDigits: 0, maximumFractionDigits: 0 }

/** An amount for people: `$1,234.50`, `$0.0042`. */
export function formatMoney(amount: number, currency: string): string {
  const digits =
    amount !== 0 && Math.abs(amount) < 0.1
      ? { maximumSignificantDigits: 2 }
      : { minimumFractionDigits: 2, maximumFractionDigits: 2, ...(Math.abs(amount) >= 100_000 && WHOLE) }
  return new Intl.NumberFormat('en-US', { style: 'currency', currency, ...digits }).format(amount)
}

/** For an axis, where the step tells how many digits are needed. */
export function formatMoneyTick(amount: number, currency: string, step: number): string {
  const digits = decimalsOf(step)
  const short = step >= 1000
  return new Intl.NumberFormat('en-US', {
    style: 'currency',
    currency,
    ...(short
      ? { notation: 'compact', maximumFractionDigits: 1, minimumFractionDigits: 0 }
      : { minimumFractionDigits: digits, maximumFractionDigits: digits }),
  }).format(amount)
}

/** As `formatMoneyTick`; all ticks of an axis in one unit. */
export function formatMillisecondsTick(milliseconds: number, step: number): string {
  return step < 250 ? `${milliseconds} ms` : `${(milliseconds / 1000).toFixed(decimalsOf(step / 1000))} s`
}

/** Digits after the point that tell multiples of a step apart. */
function decimalsOf(step: number): number {
  for (let digits = 0; digits < 8; digits++) {
    const scaled = step * 10 ** digits
    if (Math.abs(scaled - Math.round(scaled)) < 1e-6 && scaled >= 1 - 1e-6) return digits
  }
  return 8
}

/** `950`, `12.3K`, `4.1M`. */
export function formatCount(count: number): string {
  return new Intl.NumberFormat('en-US', { notation: 'compact', maximumFractionDigits: 1 }).format(count)
}

export function formatMilliseconds(milliseconds: number): string {
  return milliseconds < 1000
    ? `${Math.round(milliseconds)} ms`
    : `${(milliseconds / 1000).toFixed(milliseconds < 10_000 ? 2 : 1)} s`
}

export function formatPercent(part: number): string {
  return part > 0 && part < 0.01 ? '<1 %' : `${Math.round(part * 100)} %`
}

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']

/** A period for people: `21 Nov`, `21 Nov 14:00`, `Nov 2026`. */
export function formatPeriod(key: string, period: OverviewPeriod): string {
  const month = MONTHS[Number(key.slice(5, 7)) - 1]
  if (period === 'month') return `${month} ${key.slice(0, 4)}`
  const day = `${Number(key.slice(8, 10))} ${month}`
  return period === 'day' ? day : `${day} ${key.slice(11, 13)}:00`
}

export function formatDay(date: Date): string {
  return `${date.getUTCDate()} ${MONTHS[date.getUTCMonth()]} ${date.getUTCFullYear()}`
}

/** From 0 in even steps, at most `most` of them, to at least `largest`. */
export function niceTicks(largest: number, most = 5): number[] {
  if (!(largest > 0)) return [0, 1]
  const rough = largest / most
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough * (1 - 1e-9))!
  const ticks: number[] = []
  for (let number = 0; number <= Math.ceil(largest / step - 1e-9); number++) ticks.push(number * step)
  return ticks
}
