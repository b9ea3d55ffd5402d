/**
 * Middleware for Express 4 and 5.
 *
 * @module
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { fromNodeRequest } from '../http/node-request.ts'
import { toProblem } from '../http/problem.ts'
import { attachTenant } from '../http/tenant-of.ts'
import { createTenantRequestResolver, type TenantRequestOptions } from '../http/tenant-request.ts'
import type { Rowhouse } from '../rowhouse.ts'

export { tenantOf } from '../http/tenant-of.ts'

/** What the middleware needs of a request of Express. */
export interface ExpressRequest extends IncomingMessage {
  originalUrl: string
  url: string
  baseUrl: string
  /** As Express says, which depends on its setting `trust proxy`. */
  readonly ip?: string | undefined
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
