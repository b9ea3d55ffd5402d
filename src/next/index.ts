/**
 * Route handlers of the App Router of Next.js 15 and 16. They are functions from Request to Response, so nothing of Next.js
 * is imported.
 *
 * @module
 */
import type { LimitOptions } from '../http/admission.ts'
import {
  assertLimits,
  assertRequestOptions,
  limitOptions,
  listenerOptions,
  originOptions,
} from '../http/request-options.ts'
import { type TenantHandlerOptions, tenantHandler } from '../http/tenant-handler.ts'
import type { TenantRequest, TenantRequestOptions } from '../http/tenant-request.ts'
import type { Rowhouse } from '../rowhouse.ts'

export type { LimitSubject, OfRequest, RequestQuota, RequestRateLimit } from '../http/admission.ts'

/** What Next.js gives a route handler besides the request. */
export interface RouteContext<Params> {
  /** Of dynamic segments: `{ id: '7' }` for `/invoices/[id]`. */
  readonly params: Promise<Params>
}

export interface RouteOptions
  extends TenantRequestOptions,
    Pick<TenantHandlerOptions, 'origin' | 'onError'>,
    LimitOptions {}

/** Answers a request of a tenant. */
export type TenantRouteHandler<DB, Params, NextRequest extends Request> = (
  request: NextRequest,
  tenantRequest: TenantRequest<DB>,
  context: RouteContext<Params>,
) => Promise<Response> | Response

/** Route handlers that know their tenants. */
export type TenantRoute<DB> = <Params = Record<string, never>, NextRequest extends Request = Request>(
  handler: TenantRouteHandler<DB, Params, NextRequest>,
  limits?: LimitOptions,
) => (request: NextRequest, context: RouteContext<Params>) => Promise<Response>

/**
 * Makes what wraps route handlers: it finds the tenant of a request, takes it from rate limits and quotas, and answers
 * what is thrown with a problem (RFC 9457). No transaction is open around a handler. Made once, in a module of its own;
 * limits given with a handler take the place of the common ones.
 *
 * @example
 * ```ts
 * import { fromApiKey } from 'rowhouse/http'
 * import { tenantRoute } from 'rowhouse/next'
 *
 * // lib/route.ts
 * const route = tenantRoute(rowhouse, { resolve: fromApiKey(), rateLimit: { subject: 'key' } })
 *
 * // app/invoices/[number]/route.ts
 * const GET = route<{ number: string }>(async (_request, { tenant }, { params }) => {
 *   const { number } = await params
 *   const found = await tenant.db.selectFrom('invoices').selectAll().where('number', '=', number).executeTakeFirst()
 *   return found === undefined ? new Response(null, { status: 404 }) : Response.json(found)
 * })
 * const POST = route(async (_request, { reportUsage }) => {
 *   const { text, usage } = await complete('Summarize this.', { signal })
 *   reportUsage({ tokens: usage.input + usage.output })
 *   return Response.json({ text })
 * }, { quota: { units: { tokens: 4000 } } })
 * ```
 */
export function tenantRoute<DB>(rowhouse: Rowhouse<DB>, options: RouteOptions): TenantRoute<DB> {
  assertRequestOptions('tenantRoute', options, { ...limitOptions, ...listenerOptions, ...originOptions })
  return (handler, limits = {}) => {
    assertLimits('a route', limits)
    return tenantHandler(rowhouse, { ...options, ...limits }, (request, tenantRequest, context) =>
      handler(request as Parameters<typeof handler>[0], tenantRequest, context as Parameters<typeof handler>[2]),
    )
  }
}
