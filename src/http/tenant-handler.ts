import type { Rowhouse } from '../rowhouse.ts'
import { type Admitted, admitRequest, type LimitOptions } from './admission.ts'
import { type ErrorListener, tellSafely } from './error-listener.ts'
import { problemResponse } from './problem.ts'
import { assertRequestOptions, limitOptions, listenerOptions, originOptions, stripOptions } from './request-options.ts'
import {
  createTenantRequestResolver,
  type RequestOrigin,
  requestIdOf,
  type TenantRequest,
  type TenantRequestOptions,
} from './tenant-request.ts'

/** Answers a request of a tenant. */
export type TenantHandler<DB, Rest extends readonly unknown[]> = (
  request: Request,
  tenantRequest: TenantRequest<DB>,
  ...rest: Rest
) => Promise<Response> | Response

export interface TenantHandlerOptions extends TenantRequestOptions, LimitOptions {
  /** Gives the handler a request whose path is without what named the tenant: `/invoices` for `/t/acme/invoices`. */
  readonly stripPath?: boolean | undefined
  /** What the server knows of a request: its address, for API keys that are bound to networks. */
  readonly origin?: ((request: Request) => RequestOrigin) | undefined
  /** Told of every error that becomes an answer, for your log, with the id of the request that stands in the answer. */
  readonly onError?: ErrorListener<Request> | undefined
}

/**
 * A handler of Fetch requests that knows its tenant: for Next.js route handlers, Deno, Bun, workers, and whatever else
 * speaks Fetch. What it throws becomes a problem (RFC 9457) with the right status.
 *
 * @example
 * ```ts
 * import { fromApiKey, fromPath, requireAgreement, tenantHandler } from 'rowhouse/http'
 *
 * const resolve = requireAgreement(fromApiKey({ scopes: ['invoices:read'] }), fromPath())
 * export const GET = tenantHandler(rowhouse, { resolve }, async (_request, { tenant }) => {
 *   return Response.json(await tenant.db.selectFrom('invoices').selectAll().execute())
 * })
 * ```
 */
export function tenantHandler<DB, Rest extends readonly unknown[] = []>(
  rowhouse: Rowhouse<DB>,
  options: TenantHandlerOptions,
  handler: TenantHandler<DB, Rest>,
): (request: Request, ...rest: Rest) => Promise<Response> {
  assertRequestOptions('tenantHandler', options, {
    ...limitOptions,
    ...listenerOptions,
    ...originOptions,
    ...stripOptions,
  })
  const { stripPath = false, origin, onError, requestIdHeader } = options
  const resolveRequest = createTenantRequestResolver(rowhouse, options)
  return async (request, ...rest) => {
    const requestId = requestIdOf(request, requestIdHeader)
    let admitted: Admitted | undefined
    let response: Response
    try {
      const tenantRequest = await resolveRequest(request, { requestId, ...origin?.(request) })
      admitted = await admitRequest(request, tenantRequest, options)
      const { path } = tenantRequest
      const seen = stripPath && path !== undefined ? withPath(request, path) : request
      response = assertResponse(await handler(seen, tenantRequest, ...rest))
    } catch (error) {
      tellSafely(onError, error, request, requestId)
      response = problemResponse(error, { requestId })
    }
    if (admitted === undefined) return response
    await admitted.finish(response.status)
    return withHeaders(response, admitted.headers)
  }
}

/** By its shape: frameworks bring Response classes of their own. */
function assertResponse(response: Response): Response {
  const { status, headers } = (response ?? {}) as Partial<Response>
  if (typeof status === 'number' && status >= 100 && typeof headers?.get === 'function') return response
  // A fault of the handler, which the caller can't mend.
  throw new TypeError('The handler returned no Response.')
}

/** What the handler set itself stays. */
function withHeaders(response: Response, headers: Readonly<Record<string, string>>): Response {
  const added = Object.entries(headers).filter(([name]) => !response.headers.has(name))
  if (added.length === 0) return response
  try {
    for (const [name, value] of added) response.headers.set(name, value)
    return response
  } catch {
    // Headers of some answers, such as those of fetch and Response.redirect, can't be changed.
    const copy = new Response(response.body, response)
    for (const [name, value] of added) copy.headers.set(name, value)
    return copy
  }
}

function withPath(request: Request, path: string): Request {
  const url = new URL(request.url)
  url.pathname = path
  return new Request(url, request)
}
