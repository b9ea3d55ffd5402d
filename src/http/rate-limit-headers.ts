import type { QuotaStatus } from '../budgets/budget-types.ts'

/** One window of a rate limit, as `rateLimiter` reports it. */
export interface RateLimitWindowLike {
  readonly limit: number
  readonly windowMs: number
  readonly remaining: number
  readonly resetMs: number
}

interface Policy {
  readonly name: string
  readonly quota: number
  /** What is counted, where it is not requests. */
  readonly unit?: string | undefined
  readonly windowMs?: number | undefined
  readonly remaining: number
  readonly resetMs?: number | undefined
}

/**
 * The header fields `RateLimit-Policy` and `RateLimit` as draft-ietf-httpapi-ratelimit-headers has them (08 to 11): one
 * item for each window, named by the limit and, where there are several, by the length of the window.
 *
 * @example
 * ```ts
 * const result = await rowhouse.tenant('acme').rateLimiter.consume('user:7')
 * const headers = rateLimitHeaders(result.windows, 'requests')
 * // { 'RateLimit-Policy': '"requests";q=100;w=60', RateLimit: '"requests";r=99;t=60' }
 * ```
 */
export function rateLimitHeaders(windows: readonly RateLimitWindowLike[], limit?: string): Record<string, string> {
  return formatPolicies(
    windows.map(({ limit: quota, windowMs, remaining, resetMs }) => {
      const length = `${windowMs}ms`
      const name = limit === undefined ? length : windows.length === 1 ? limit : `${limit}-${length}`
      return { name, quota, windowMs, remaining, resetMs }
    }),
  )
}

/** The same of quotas: of each one that has a limit. */
export function quotaHeaders(quotas: readonly QuotaStatus[]): Record<string, string> {
  return formatPolicies(
    quotas.flatMap(({ name, metric, limit, free, windowMs, periodStart, periodEnd }) =>
      limit === undefined
        ? []
        : {
            name,
            quota: limit,
            unit: metric === 'requests' ? undefined : metric,
            windowMs: windowMs ?? (periodEnd && periodEnd.getTime() - periodStart.getTime()),
            remaining: free ?? 0,
            resetMs: periodEnd && periodEnd.getTime() - Date.now(),
          },
    ),
  )
}

/** Of a quota that refused a call. */
export function denialHeaders(denial: {
  readonly quota: string
  readonly metric: string
  readonly limit: number
  readonly used: number
  readonly reserved: number
  readonly retryAfterMs?: number | undefined
}): Record<string, string> {
  return formatPolicies([
    {
      name: denial.quota,
      quota: denial.limit,
      unit: denial.metric === 'requests' ? undefined : denial.metric,
      remaining: denial.limit - denial.used - denial.reserved,
      resetMs: denial.retryAfterMs,
    },
  ])
}

function formatPolicies(policies: readonly Policy[]): Record<string, string> {
  if (policies.length === 0) return {}
  const seconds = (milliseconds: number) => integer(Math.ceil(milliseconds / 1000))
  const optional = (name: string, value: string | number | undefined) =>
    value === undefined ? '' : `;${name}=${value}`
  return {
    'RateLimit-Policy': policies
      .map(({ name, quota, unit, windowMs }) => {
        const length = windowMs === undefined ? undefined : seconds(windowMs)
        return `${quoted(name)};q=${integer(quota)}${optional('qu', unit && quoted(unit))}${optional('w', length)}`
      })
      .join(', '),
    RateLimit: policies
      .map(({ name, remaining, resetMs }) => {
        const reset = resetMs === undefined ? undefined : seconds(resetMs)
        return `${quoted(name)};r=${integer(remaining)}${optional('t', reset)}`
      })
      .join(', '),
  }
}

/** A whole number of structured fields, which has at most 15 digits. What is left of a fraction is not left. */
function integer(value: number): number {
  return Math.min(Math.max(Math.floor(value), 0), 999_999_999_999_999)
}

/** A string of structured fields: printable ASCII. */
function quoted(text: string): string {
  return `"${text.replaceAll(/[^\x20-\x7e]/g, '?').replaceAll(/["\\]/g, '\\$&')}"`
}
