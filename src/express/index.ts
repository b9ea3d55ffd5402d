/**
 * Middleware for Express 4 and 5.
 *
 * @module
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import {
  type Admitted,
  type RequestQuota,
  type RequestRateLimit,
  reserveQuota,
  takeFromRateLimit,
} from '../http/admission.ts'
import { type ErrorListener, expectErrors, knownOf, tellSafely } from '../http/error-listener.ts'
import { fromNodeRequest } from '../http/node-request.ts'
import { toProblem } from '../http/problem.ts'
import {
  assertQuota,
  assertRateLimit,
  assertRequestOptions,
  listenerOptions,
  stripOptions,
} from '../http/request-options.ts'
import { attachTenant, tenantOf } from '../http/tenant-of.ts'
import {
  createTenantRequestResolver,
  requestIdOfNode,
  type TenantRequest,
  type TenantRequestOptions,
} from '../http/tenant-request.ts'
import type { Rowhouse } from '../rowhouse.ts'

export type { LimitSubject, OfRequest, RequestQuota, RequestRateLimit } from '../http/admission.ts'
export { tenantOf } from '../http/tenant-of.ts'

/** What the middleware needs of a request of Express. */
export interface ExpressRequest extends IncomingMessage {
  originalUrl: string
  url: string
  baseUrl: string
  /** As Express says, which depends on its setting `trust proxy`. */
  readonly ip?: string | undefined
  /** The route that matched: where the middleware belongs to one. */
  readonly route?: { readonly path?: unknown } | undefined
}

export type ExpressMiddleware = (
  request: ExpressRequest,
  response: ServerResponse,
  next: (error?: unknown) => void,
) => Promise<void>

export interface ExpressOptions extends TenantRequestOptions {
  /**
   * Lets routes see the path without what named the tenant: `/invoices` for `/t/acme/invoices`. Where the middleware is
   * mounted, at `/api` for example, that stays: `fromPath({ prefix: '/api/t' })` makes `/api/invoices` of
   * `/api/t/acme/invoices`.
   */
  readonly stripPath?: boolean | undefined
  /**
   * Told of every error that this middleware, or a limit behind it, answers: for your log, with the id of the request that
   * stands in the answer. What handlers throw is told to that of `problemHandler`.
   */
  readonly onError?: ErrorListener<ExpressRequest> | undefined
}

/**
 * Finds the tenant of each request; handlers get it from `tenantOf(request)`. A request without one is answered with a
 * problem (RFC 9457) and goes no further. No transaction is open around a handler.
 *
 * @example
 * ```ts
 * import express from 'express'
 * import { problemHandler, tenantMiddleware, tenantOf } from 'rowhouse/express'
 * import { fromApiKey } from 'rowhouse/http'
 *
 * const app = express()
 * app.use(tenantMiddleware(rowhouse, { resolve: fromApiKey() }))
 * app.get('/invoices', async (request, response) => {
 *   const { tenant } = tenantOf(request)
 *   response.json(await tenant.db.selectFrom('invoices').selectAll().execute())
 * })
 * app.use(problemHandler())
 * ```
 */
export function tenantMiddleware<DB>(rowhouse: Rowhouse<DB>, options: ExpressOptions): ExpressMiddleware {
  assertRequestOptions('tenantMiddleware', options, { ...listenerOptions, ...stripOptions })
  const resolveRequest = createTenantRequestResolver(rowhouse, options)
  return async function rowhouseTenant(request, response, next) {
    const requestId = requestIdOfNode(request, options.requestIdHeader)
    const tell = expectErrors(request, requestId, options.onError)
    try {
      const seen = fromNodeRequest(request, request.originalUrl)
      const tenantRequest = await resolveRequest(seen, { ip: request.ip, requestId })
      attachTenant(request, tenantRequest)
      if (options.stripPath === true) stripPath(request, new URL(seen.url), tenantRequest.path)
    } catch (error) {
      tell(error)
      sendProblem(response, error, requestId)
      return
    }
    next()
  }
}

/** Express puts what the middleware is mounted at back before the path of the request when it goes on. */
function stripPath(request: ExpressRequest, { pathname, search }: URL, path: string | undefined): void {
  // Mounted behind what named the tenant: Express took that away already.
  if (path === undefined || request.baseUrl.length > pathname.length - path.length) return
  request.url = `${path}${search}`
}

/**
 * Limits requests in a window of time; behind `tenantMiddleware`. The header fields `RateLimit` and `RateLimit-Policy` tell
 * how the limit stands; over it, the answer is a problem with the status 429 and `Retry-After`.
 *
 * @example
 * ```ts
 * import express from 'express'
 * import { rateLimitMiddleware } from 'rowhouse/express'
 *
 * const app = express()
 * app.use(rateLimitMiddleware())                                            // the limit "requests" of the tenant or its tier
 * const search = rateLimitMiddleware({ name: 'search', subject: 'user', cost: (request) => (request.method === 'POST' ? 5 : 1) })
 * app.get('/search', search, (_request, response) => void response.json([]))
 * ```
 */
export function rateLimitMiddleware(options: RequestRateLimit = {}): ExpressMiddleware {
  assertRateLimit('rateLimitMiddleware', options)
  return limitBy('rowhouseRateLimit', (request, tenantRequest, route) =>
    takeFromRateLimit(request, tenantRequest, options, route),
  )
}

/**
 * Reserves what a request may use of quotas and budgets, and books it when the answer is sent (`tenantOf(request)`
 * has `reportUsage` for what was really used; an answer of 500 and above used nothing); behind `tenantMiddleware`. What
 * doesn't fit is a problem that names the quota, with the status 429, or 402 for money.
 *
 * @example
 * ```ts
 * import express from 'express'
 * import { quotaMiddleware, tenantOf } from 'rowhouse/express'
 *
 * const app = express()
 * app.post('/answers', quotaMiddleware({ units: { tokens: 4000 } }), async (request, response) => {
 *   const { text, usage } = await complete('Summarize this.', { signal })
 *   tenantOf(request).reportUsage({ tokens: usage.input + usage.output })
 *   response.json({ text })
 * })
 * ```
 */
export function quotaMiddleware(options: RequestQuota = {}): ExpressMiddleware {
  assertQuota('quotaMiddleware', options)
  return limitBy('rowhouseQuota', (request, tenantRequest) => reserveQuota(request, tenantRequest, options))
}

function limitBy(
  name: string,
  admit: (request: Request, tenantRequest: TenantRequest, route: string | undefined) => Promise<Admitted>,
): ExpressMiddleware {
  const middleware: ExpressMiddleware = async (request, response, next) => {
    const known = knownOf(request)
    // Without a tenant there is nobody to tell but Express.
    if (known?.tenantRequest === undefined) return next(missingTenant(request))
    try {
      const path = request.route?.path
      const route = typeof path === 'string' ? `${request.baseUrl}${path}` : undefined
      const admitted = await admit(fromNodeRequest(request, request.originalUrl), known.tenantRequest, route)
      // The client went away meanwhile: nobody waits for the handler, which would not be booked any more.
      if (response.closed) return await admitted.finish(503)
      // Also when the client goes away: the work is done.
      response.once('close', () => void admitted.finish(response.statusCode))
      for (const [field, value] of Object.entries(admitted.headers)) response.appendHeader(field, value)
    } catch (error) {
      known.tell(error)
      sendProblem(response, error, known.requestId)
      return
    }
    next()
  }
  return Object.defineProperty(middleware, 'name', { value: name })
}

export interface ProblemHandlerOptions {
  /** Told of every error, for your log, with the id of the request where `tenantMiddleware` gave it one. */
  readonly onError?: ((error: unknown, request: IncomingMessage, requestId: string | undefined) => void) | undefined
}

/** The last middleware: answers what handlers throw with a problem. Of errors that are not of rowhouse it tells nothing. */
export function problemHandler({
  onError,
}: ProblemHandlerOptions = {}): (
  error: unknown,
  request: IncomingMessage,
  response: ServerResponse,
  next: (error?: unknown) => void,
) => void {
  return function rowhouseProblem(error, request, response, next) {
    const requestId = knownOf(request)?.requestId
    tellSafely(onError, error, request, requestId)
    // Half of an answer is on its way: Express closes the connection.
    if (response.headersSent) next(error)
    else sendProblem(response, error, requestId)
  }
}

function missingTenant(request: object): unknown {
  try {
    return tenantOf(request)
  } catch (error) {
    return error
  }
}

function sendProblem(response: ServerResponse, error: unknown, requestId: string | undefined): void {
  // Somebody else answered meanwhile: a timeout, for example.
  if (response.headersSent) return
  const { problem, headers } = toProblem(error, { requestId })
  response.writeHead(problem.status, headers).end(JSON.stringify(problem))
}
