import { randomUUID } from 'node:crypto'
import { bookPersistently } from '../budgets/persistently.ts'
import { DEFAULT_LEASE_MS } from '../budgets/run-in-budget.ts'
import { settleForCertain } from '../budgets/settle-for-certain.ts'
import type { Units } from '../budgets/units.ts'
import { createRowhouseError, RateLimitedError } from '../errors.ts'
import type { RateLimitWindow } from '../rate-limits/rate-limit-options.ts'
import { quotaHeaders, rateLimitHeaders } from './rate-limit-headers.ts'
import { reportedUsage, type TenantRequest } from './tenant-request.ts'

/** Something that is the same for all requests, or a function of the request. */
export type OfRequest<T> = T | ((request: Request, tenantRequest: TenantRequest) => T)

/** Whose allowance a request uses: that of the tenant as a whole, of its user, of its API key, of the route, or a name of yours. */
export type LimitSubject =
  | 'tenant'
  | 'user'
  | 'key'
  | 'route'
  | ((request: Request, tenantRequest: TenantRequest) => string)

/** How requests are limited in a window of time. */
export interface RequestRateLimit {
  /** Name of a stored rate limit: the tenant's own, or that of its tier. Default `requests`. */
  readonly name?: string | undefined
  /** Windows given here, in place of stored ones. `name` then only tells the limit from others in answers. */
  readonly windows?: readonly RateLimitWindow[]
  /** Default `tenant`. */
  readonly subject?: LimitSubject | undefined
  /** How much a request uses. Default 1. */
  readonly cost?: OfRequest<number> | undefined
}

/** What requests use of quotas and budgets. */
export interface RequestQuota {
  /** The most that a request can use. It is reserved before the handler and booked after it. Each counts as one of `requests` besides. */
  readonly units?: OfRequest<Units>
  /** The model that it uses, which needs a price. */
  readonly model?: string | ((request: Request, tenantRequest: TenantRequest) => string | undefined)
  /** How long a handler may take, in milliseconds, before its reservation is given back. Default 60000. */
  readonly leaseMs?: number | undefined
  /**
   * Tells in the header fields of allowed answers how much is left of each quota that has a limit, which takes one more
   * round trip to the database. Default false.
   */
  readonly advertise?: boolean | undefined
  /**
   * Told when what a request used could not be booked: when it was refused, such as a unit without a price, all that was
   * reserved is booked in its place; otherwise the reservation ends by itself.
   */
  readonly onError?: ((error: unknown) => void) | undefined
}

/** Left out, there is no limit; undefined is refused. */
export interface LimitOptions {
  readonly rateLimit?: RequestRateLimit
  readonly quota?: RequestQuota
}

/** A request that may go on. */
export interface Admitted {
  /** Header fields of the answer. */
  readonly headers: Readonly<Record<string, string>>
  /** Books what it used; after an answer of 500 and above it used nothing. */
  readonly finish: (status: number) => Promise<void>
}

const NOTHING_TO_BOOK = async () => {}

/** Takes a request from its rate limit, or throws {@link RateLimitedError} (429). */
export async function takeFromRateLimit(
  request: Request,
  tenantRequest: TenantRequest,
  { name, windows, subject = 'tenant', cost = 1 }: RequestRateLimit,
  route?: string,
): Promise<Admitted> {
  const { rateLimiter } = tenantRequest.tenant
  const limit = name ?? 'requests'
  const whom = subjectOf(request, tenantRequest, subject, route)
  const result = await rateLimiter.consume(whom, {
    cost: resolve(cost, request, tenantRequest),
    ...(windows === undefined ? { name: limit } : { windows }),
  })
  if (!result.allowed) {
    throw new RateLimitedError(
      `The request is over the rate limit "${limit}" of ${result.limit}; try again in ${result.retryAfterMs} ms.`,
      result,
      limit,
    )
  }
  return { headers: rateLimitHeaders(result.windows, limit), finish: NOTHING_TO_BOOK }
}

/**
 * Reserves what a request can use, or throws `QuotaExceededError` (429) or `BudgetExceededError` (402), which name the
 * quota. No connection is in use between reserving and booking.
 */
export async function reserveQuota(
  request: Request,
  tenantRequest: TenantRequest,
  { units = {}, model, leaseMs = DEFAULT_LEASE_MS, advertise = false, onError }: RequestQuota,
): Promise<Admitted> {
  const { budget } = tenantRequest.tenant
  const requested = resolve(units, request, tenantRequest)
  // Not that of the header, which callers choose: repeating it would be one request.
  const requestId = randomUUID()
  await budget.admit({
    requestId,
    units: requested,
    model: resolve(model, request, tenantRequest),
    leaseMs,
    rateLimit: null,
  })
  const { promise: over, resolve: end } = Promise.withResolvers<void>()
  // A server that stops loses no booking: not that of an answer it just sent, nor of a connection it just cut.
  tenantRequest.waitUntil(over)
  const lease = setTimeout(end, leaseMs).unref()
  const finish = async (status: number) => {
    const used = reportedUsage(tenantRequest) ?? (status >= 500 ? undefined : requested)
    try {
      if (used === undefined) await bookPersistently(() => budget.release(requestId, { failed: true }))
      else await settleForCertain(budget, requestId, used, { kind: 'request', failed: status >= 500 }, requested)
    } catch (error) {
      onError?.(error)
    } finally {
      clearTimeout(lease)
      end()
    }
  }
  try {
    return { headers: advertise ? quotaHeaders(await budget.checkQuotas()) : {}, finish }
  } catch (error) {
    // The handler won't run, so nothing is used.
    await finish(500)
    throw error
  }
}

/** Both: the rate limit first, which costs less, then the quotas. */
export async function admitRequest(
  request: Request,
  tenantRequest: TenantRequest,
  { rateLimit, quota }: LimitOptions,
  route?: string,
): Promise<Admitted> {
  const limited = rateLimit && (await takeFromRateLimit(request, tenantRequest, rateLimit, route))
  const reserved = quota && (await reserveQuota(request, tenantRequest, quota))
  return {
    headers: joinHeaders(limited?.headers, reserved?.headers),
    finish: reserved?.finish ?? NOTHING_TO_BOOK,
  }
}

/** Lists of one field are one list. */
export function joinHeaders(
  ...parts: readonly (Readonly<Record<string, string>> | undefined)[]
): Record<string, string> {
  const joined: Record<string, string> = {}
  for (const part of parts) {
    for (const [name, value] of Object.entries(part ?? {})) {
      joined[name] = joined[name] === undefined ? value : `${joined[name]}, ${value}`
    }
  }
  return joined
}

function subjectOf(request: Request, tenantRequest: TenantRequest, subject: LimitSubject, route?: string): string {
  if (typeof subject === 'function') return subject(request, tenantRequest)
  switch (subject) {
    case 'tenant':
      return ''
    case 'user':
      return `user:${tenantRequest.userId ?? ''}`
    case 'key':
      return `key:${tenantRequest.apiKey?.id ?? ''}`
    case 'route':
      return `route:${request.method} ${route ?? new URL(request.url).pathname}`.slice(0, 200)
    default:
      throw createRowhouseError('invalid_argument', 'subject is tenant, user, key, route, or a function.')
  }
}

function resolve<T>(value: OfRequest<T>, request: Request, tenantRequest: TenantRequest): T {
  return typeof value === 'function' ? (value as (r: Request, t: TenantRequest) => T)(request, tenantRequest) : value
}
