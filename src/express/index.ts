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
import { fromNodeRequest } from '../http/node-request.ts'
import { toProblem } from '../http/problem.ts'
import { attachTenant, tenantOf } from '../http/tenant-of.ts'
import { createTenantRequestResolver, type TenantRequest, type TenantRequestOptions } from '../http/tenant-request.ts'
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
  /** Lets routes see the path without what named the tenant: `/invoices` for `/t/acme/invoices`. */
  readonly stripPath?: boolean | undefined
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
  const resolveRequest = createTenantRequestResolver(rowhouse, options)
  return async function rowhouseTenant(request, response, next) {
    try {
      const tenantRequest = await resolveRequest(fromNodeRequest(request, request.originalUrl), { ip: request.ip })
      attachTenant(request, tenantRequest)
      if (options.stripPath === true && tenantRequest.path !== undefined && request.baseUrl === '') {
        const { search } = new URL(request.originalUrl, 'http://localhost')
        request.url = `${tenantRequest.path}${search}`
      }
    } catch (error) {
      sendProblem(response, error)
      return
    }
    next()
  }
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
  return limitBy('rowhouseQuota', (request, tenantRequest) => reserveQuota(request, tenantRequest, options))
}

function limitBy(
  name: string,
  admit: (request: Request, tenantRequest: TenantRequest, route: string | undefined) => Promise<Admitted>,
): ExpressMiddleware {
  const middleware: ExpressMiddleware = async (request, response, next) => {
    try {
      const path = request.route?.path
      const route = typeof path === 'string' ? `${request.baseUrl}${path}` : undefined
      const admitted = await admit(fromNodeRequest(request, request.originalUrl), tenantOf(request), route)
      for (const [field, value] of Object.entries(admitted.headers)) response.appendHeader(field, value)
      // Also when the client went away: the work was done.
      response.once('close', () => void admitted.finish(response.statusCode))
    } catch (error) {
      sendProblem(response, error)
      return
    }
    next()
  }
  return Object.defineProperty(middleware, 'name', { value: name })
}

export interface ProblemHandlerOptions {
  /** Told of every error, for your log. */
  readonly onError?: ((error: unknown, request: IncomingMessage) => void) | undefined
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
    onError?.(error, request)
    // Half of an answer is on its way: Express closes the connection.
    if (response.headersSent) next(error)
    else sendProblem(response, error)
  }
}

function sendProblem(response: ServerResponse, error: unknown): void {
  const { problem, headers } = toProblem(error)
  response.writeHead(problem.status, headers).end(JSON.stringify(problem))
}
