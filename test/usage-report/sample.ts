import type { UsageLine } from '../../src/index.ts'
import type { TenantOverview, UsageOverview } from '../../src/usage-report/usage-overview.ts'

const DAY_MS = 86_400_000
const LINE: UsageLine = {
  periodStart: undefined,
  model: undefined,
  userId: undefined,
  kind: undefined,
  provider: undefined,
  currency: 'USD',
  events: 0,
  tokens: 0,
  inputTokens: 0,
  outputTokens: 0,
  cachedInputTokens: 0,
  cacheWriteTokens: 0,
  embeddingTokens: 0,
  images: 0,
  toolCalls: 0,
  units: {},
  cost: '0',
  p50Ms: undefined,
  p95Ms: undefined,
  p99Ms: undefined,
}

export interface SampleOptions {
  readonly names: readonly string[]
  readonly models?: readonly string[]
  readonly days?: number
  readonly currency?: string
  /** Of the spend. */
  readonly scale?: number
}

/** An overview with made-up numbers, the same ones each time. */
export function sampleOverview({
  names,
  models = ['large', 'small', 'embed'],
  days = 30,
  currency = 'USD',
  scale = 1,
}: SampleOptions): UsageOverview {
  const from = new Date('2026-10-22T00:00:00Z')
  const tenants = names.map((name, number): TenantOverview => {
    const lines = Array.from({ length: days }, (_, day) =>
      models.map((model, at): UsageLine => {
        const weekend = (day + 4) % 7 >= 5 ? 0.3 : 1
        const wave = 1 + Math.sin(day / 4 + at) / 3 + day / days / 2
        const cost = (scale * 12 * weekend * wave) / (1 + number) ** 0.9 / (1 + at) ** 1.3
        const events = Math.round(cost * 40)
        return {
          ...LINE,
          currency,
          model,
          periodStart: new Date(from.getTime() + day * DAY_MS),
          cost: cost.toFixed(6),
          events,
          tokens: events * 1340,
          inputTokens: events * 1100,
          outputTokens: events * 240,
        }
      }),
    ).flat()
    const sum = (of: (line: UsageLine) => number) => lines.reduce((total, line) => total + of(line), 0)
    const cost = sum((line) => Number(line.cost))
    return {
      tenantId: `tenant-${number}`,
      name,
      status: 'active',
      timeZone: 'UTC',
      lines,
      totals: [
        {
          ...LINE,
          currency,
          cost: cost.toFixed(6),
          events: sum(({ events }) => events),
          tokens: sum(({ tokens }) => tokens),
          inputTokens: sum(({ inputTokens }) => inputTokens),
          outputTokens: sum(({ outputTokens }) => outputTokens),
          p50Ms: 420,
          p95Ms: 1300,
          p99Ms: 900 + ((number * 733) % 2600),
        },
      ],
      quotas: [
        quota('concurrency', 'slots', 16, number % 9),
        quota('money_per_month', 'money', 500, Math.min(505, cost * 1.1)),
        quota('tokens_per_day', 'tokens', 2_000_000, (number * 412_345) % 1_990_000),
      ],
    }
  })
  return {
    from,
    to: new Date(from.getTime() + days * DAY_MS),
    madeAt: new Date('2026-11-21T12:00:00Z'),
    period: 'day',
    tenants,
  }
}

function quota(name: string, metric: string, limit: number, used: number): TenantOverview['quotas'][number] {
  return {
    name,
    metric,
    period: 'month',
    windowMs: undefined,
    source: 'tier',
    limit,
    softLimit: undefined,
    used,
    reserved: 0,
    overrun: 0,
    free: Math.max(0, limit - used),
    periodStart: new Date('2026-11-01T00:00:00Z'),
    periodEnd: undefined,
  }
}

/** Names that are as unfriendly as names get. */
export const HOSTILE_NAMES = [
  '<script>alert(1)</script>',
  '"><img src=x onerror=alert(1)>',
  `' onmouseover='alert(1)' x='`,
  '&lt;b&gt; & Söhne GmbH',
  'A company whose name is so long that it can not possibly fit next to a bar in any chart whatsoever',
  '\u202eevil\u202c \u0007bell',
  '株式会社サンプル',
]
