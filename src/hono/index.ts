/**
 * Middleware for Hono 4.
 *
 * @module
 */
import {
  type Admitted,
  type RequestQuota,
  type RequestRateLimit,
  reserveQuota,
  takeFromRateLimit,
} from '../http/admission.ts'
import { type ErrorListener, expectErrors, knownOf, tellSafely } from '../http/error-listener.ts'
import { problemResponse } from '../http/problem.ts'
import {
  assertQuota,
  assertRateLimit,
  assertRequestOptions,
  listenerOptions,
  originOptions,
} from '../http/request-options.ts'
import { attachTenant, tenantOf } from '../http/tenant-of.ts'
import {
  createTenantRequestResolver,
  type RequestOrigin,
  requestIdOf,
  type TenantRequest,
  type TenantRequestOptions,
} from '../http/tenant-request.ts'
import type { Rowhouse } from '../rowhouse.ts'

export type { LimitSubject, OfRequest, RequestQuota, RequestRateLimit } from '../http/admission.ts'
export { tenantOf } from '../http/tenant-of.ts'

/** What the middleware needs of a context of Hono. */
export interface HonoContextLike {
  readonly req: { readonly raw: Request; readonly routePath?: string }
  readonly res: Response
  header(name: string, value: string, options?: { readonly append?: boolean }): void
}

export interface HonoOptions<Context extends HonoContextLike = HonoContextLike> extends TenantRequestOptions {
  /** The address of the client: `(c) => ({ ip: getConnInfo(c).remote.address })`. Needed by keys with networks. */
  readonly origin?: ((context: Context) => RequestOrigin) | undefined
  /**
   * Told of every error that this middleware, or a limit behind it, answers: for your log, with the id of the request that
   * stands in the answer. What handlers throw is told to that of `problemHandler`.
   */
  readonly onError?: ErrorListener<Context> | undefined
}

/**
 * Finds the tenant of each request; handlers get it from `tenantOf(c)`. A request without one is answered with a problem
 * (RFC 9457) and goes no further. No transaction is open around a handler. Hono has chosen the route by then, so with
 * `fromPath` routes name the tenant: `/t/:tenant/invoices`, or `app.basePath('/t/:tenant')`.
 *
 * @example
 * ```ts
 * import { problemHandler, tenantMiddleware, tenantOf } from 'rowhouse/hono'
 * import { fromApiKey } from 'rowhouse/http'
 *
 * const middleware = tenantMiddleware(rowhouse, { resolve: fromApiKey() })   // app.use(middleware)
 * const onError = problemHandler()                                           // app.onError(onError)
 * const handler = async (c: object) => {                                     // app.get('/invoices', handler)
 *   const { tenant } = tenantOf<AppTables>(c)
 *   return Response.json(await tenant.db.selectFrom('invoices').selectAll().execute())
 * }
 * ```
 */
export function tenantMiddleware<DB, Context extends HonoContextLike = HonoContextLike>(
  rowhouse: Rowhouse<DB>,
  options: HonoOptions<Context>,
): (context: Context, next: () => Promise<void>) => Promise<Response | undefined> {
  assertRequestOptions('tenantMiddleware', options, { ...listenerOptions, ...originOptions })
  const resolveRequest = createTenantRequestResolver(rowhouse, options)
  return async function rowhouseTenant(context, next) {
    const requestId = requestIdOf(context.req.raw, options.requestIdHeader)
    const tell = expectErrors(context, requestId, options.onError)
    try {
      const origin = { requestId, ...options.origin?.(context) }
      attachTenant(context, await resolveRequest(context.req.raw, origin))
    } catch (error) {
      tell(error)
      return problemResponse(error, { requestId })
    }
    await next()
    return undefined
  }
}

/**
 * Limits requests in a window of time; behind `tenantMiddleware`. The header fields `RateLimit` and `RateLimit-Policy` tell
 * how the limit stands; over it, the answer is a problem with the status 429 and `Retry-After`.
 *
 * @example
 * ```ts
 * import { rateLimitMiddleware } from 'rowhouse/hono'
 *
 * const everywhere = rateLimitMiddleware()                                        // app.use(everywhere)
 * const search = rateLimitMiddleware({ name: 'search', subject: 'user', cost: 5 }) // app.get('/search', search, handler)
 * ```
 */
export function rateLimitMiddleware(options: RequestRateLimit = {}): HonoMiddleware {
  assertRateLimit('rateLimitMiddleware', options)
  return limitBy('rowhouseRateLimit', (request, tenantRequest, route) =>
    takeFromRateLimit(request, tenantRequest, options, route),
  )
}

/**
 * Reserves what a request may use of quotas and budgets, and books it when the handler has answered (`tenantOf(c)` has
 * `reportUsage` for what was really used; an answer of 500 and above used nothing); behind `tenantMiddleware`. What
 * doesn't fit is a problem that names the quota, with the status 429, or 402 for money.
 *
 * @example
 * ```ts
 * import { quotaMiddleware } from 'rowhouse/hono'
 *
 * const answers = quotaMiddleware({ units: { tokens: 4000 }, advertise: true })    // app.post('/answers', answers, handler)
 * ```
 */
export function quotaMiddleware(options: RequestQuota = {}): HonoMiddleware {
  assertQuota('quotaMiddleware', options)
  return limitBy('rowhouseQuota', (request, tenantRequest) => reserveQuota(request, tenantRequest, options))
}

/** A middleware of Hono. */
export type HonoMiddleware = (context: HonoContextLike, next: () => Promise<void>) => Promise<Response | undefined>

function limitBy(
  name: string,
  admit: (request: Request, tenantRequest: TenantRequest, route: string | undefined) => Promise<Admitted>,
): HonoMiddleware {
  const middleware: HonoMiddleware = async (context, next) => {
    // Without a tenant there is nobody to tell but Hono.
    const tenantRequest = tenantOf(context)
    let admitted: Admitted
    try {
      admitted = await admit(context.req.raw, tenantRequest, context.req.routePath)
    } catch (error) {
      const known = knownOf(context)
      known?.tell(error)
      return problemResponse(error, { requestId: known?.requestId })
    }
    try {
      await next()
    } catch (error) {
      await admitted.finish(500)
      throw error
    }
    for (const [field, value] of Object.entries(admitted.headers)) context.header(field, value, { append: true })
    await admitted.finish(context.res.status)
    return undefined
  }
  return Object.defineProperty(middleware, 'name', { value: name })
}

/** For `app.onError`: answers what handlers throw with a problem. Of errors that are not of rowhouse it tells nothing. */
export function problemHandler({
  onError,
}: {
  /** Told of every error, for your log, with the id of the request where `tenantMiddleware` gave it one. */
  readonly onError?:
    | ((error: unknown, context: HonoContextLike | undefined, requestId: string | undefined) => void)
    | undefined
} = {}): (error: Error, context?: HonoContextLike) => Response {
  return function rowhouseProblem(error, context) {
    const requestId = context && knownOf(context)?.requestId
    tellSafely(onError, error, context, requestId)
    // An HTTPException of Hono brings its own answer.
    const { getResponse } = error as { getResponse?: () => Response }
    return typeof getResponse === 'function' ? getResponse.call(error) : problemResponse(error, { requestId })
  }
}
