/**
 * A plugin for Fastify 4 and 5.
 *
 * @module
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import {
  type Admitted,
  joinHeaders,
  type RequestQuota,
  type RequestRateLimit,
  reserveQuota,
  takeFromRateLimit,
} from '../http/admission.ts'
import { type ErrorListener, expectErrors, knownOf } from '../http/error-listener.ts'
import { fromNodeRequest } from '../http/node-request.ts'
import { toProblem } from '../http/problem.ts'
import { assertQuota, assertRateLimit, assertRequestOptions, listenerOptions } from '../http/request-options.ts'
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

/** What the plugin needs of a request of Fastify. */
export interface FastifyRequestLike {
  readonly raw: IncomingMessage
  /** As Fastify says, which depends on its option `trustProxy`. */
  readonly ip: string
  readonly id: unknown
  /** The route that matched. */
  readonly routeOptions?: { readonly url?: string | undefined } | undefined
}

export interface FastifyReplyLike {
  code(status: number): unknown
  headers(values: Record<string, string>): unknown
  send(payload: string): unknown
  getHeader(name: string): unknown
  readonly raw: ServerResponse
}

/** What the plugin needs of an instance of Fastify. */
export interface FastifyLike {
  addHook(name: 'onRequest', hook: (request: FastifyRequestLike, reply: FastifyReplyLike) => Promise<unknown>): unknown
  setErrorHandler(handler: (error: unknown, request: FastifyRequestLike, reply: FastifyReplyLike) => unknown): unknown
}

export interface FastifyOptions extends TenantRequestOptions {
  /**
   * Told of every error that becomes an answer, those of the limits included: for your log, with the id of the request that
   * stands in the answer.
   */
  readonly onError?: ErrorListener<FastifyRequestLike> | undefined
}

/**
 * Finds the tenant of each request; handlers get it from `tenantOf(request)`. A request without one is answered with a
 * problem (RFC 9457), and so is what handlers throw. No transaction is open around a handler. Fastify has chosen the route by
 * then, so with `fromPath` routes name the tenant: `/t/:tenant/invoices`, or `prefix: '/t/:tenant'` of `register`.
 *
 * @example
 * ```ts
 * import { tenantPlugin, tenantOf } from 'rowhouse/fastify'
 * import { fromApiKey } from 'rowhouse/http'
 *
 * const plugin = tenantPlugin(rowhouse, { resolve: fromApiKey() })   // await app.register(plugin)
 * const handler = async (request: object) => {                       // app.get('/invoices', handler)
 *   const { tenant } = tenantOf<AppTables>(request)
 *   return tenant.db.selectFrom('invoices').selectAll().execute()
 * }
 * ```
 */
export function tenantPlugin<DB>(
  rowhouse: Rowhouse<DB>,
  options: FastifyOptions,
): (instance: FastifyLike) => Promise<void> {
  assertRequestOptions('tenantPlugin', options, listenerOptions)
  const resolveRequest = createTenantRequestResolver(rowhouse, options)
  const expect = (request: FastifyRequestLike) => {
    const requestId = requestIdOfNode(request.raw, options.requestIdHeader)
    expectErrors(request, requestId, options.onError)
    return requestId
  }
  const plugin = async (instance: FastifyLike) => {
    instance.addHook('onRequest', async (request, reply) => {
      try {
        const requestId = expect(request)
        const tenantRequest = await resolveRequest(fromNodeRequest(request.raw), { ip: request.ip, requestId })
        attachTenant(request, tenantRequest)
        return undefined
      } catch (error) {
        return answer(error, request, reply)
      }
    })
    instance.setErrorHandler((error, request, reply) => {
      // What Fastify itself refuses (a body that is no JSON) has a status of its own.
      const { statusCode } = error as { statusCode?: unknown }
      if (typeof statusCode === 'number' && statusCode < 500) throw error
      // A hook before this plugin failed.
      if (knownOf(request) === undefined) expect(request)
      return answer(error, request, reply)
    })
  }
  // Holds for the whole instance, not only for what is registered inside of the plugin.
  return Object.assign(plugin, { [Symbol.for('skip-override')]: true })
}

/** A hook of Fastify that answers by itself, or lets the request go on. */
export type FastifyHook = (request: FastifyRequestLike, reply: FastifyReplyLike) => Promise<unknown>

/**
 * Limits requests in a window of time: an `onRequest` hook, of the instance or of one route, behind `tenantPlugin`. The
 * header fields `RateLimit` and `RateLimit-Policy` tell how the limit stands; over it, the answer is a problem with the
 * status 429 and `Retry-After`.
 *
 * @example
 * ```ts
 * import { rateLimitHook } from 'rowhouse/fastify'
 *
 * const everywhere = rateLimitHook()                                              // app.addHook('onRequest', everywhere)
 * const onRequest = rateLimitHook({ name: 'search', subject: 'route', cost: 5 })  // app.get('/search', { onRequest }, handler)
 * ```
 */
export function rateLimitHook(options: RequestRateLimit = {}): FastifyHook {
  assertRateLimit('rateLimitHook', options)
  return limitBy((request, tenantRequest, route) => takeFromRateLimit(request, tenantRequest, options, route))
}

/**
 * Reserves what a request may use of quotas and budgets, and books it when the answer is sent (`tenantOf(request)`
 * has `reportUsage` for what was really used; an answer of 500 and above used nothing): an `onRequest` hook behind
 * `tenantPlugin`. What doesn't fit is a problem that names the quota, with the status 429, or 402 for money.
 *
 * @example
 * ```ts
 * import { quotaHook } from 'rowhouse/fastify'
 *
 * const onRequest = quotaHook({ units: { tokens: 4000 }, advertise: true })       // app.post('/answers', { onRequest }, handler)
 * ```
 */
export function quotaHook(options: RequestQuota = {}): FastifyHook {
  assertQuota('quotaHook', options)
  return limitBy((request, tenantRequest) => reserveQuota(request, tenantRequest, options))
}

function limitBy(
  admit: (request: Request, tenantRequest: TenantRequest, route: string | undefined) => Promise<Admitted>,
): FastifyHook {
  return async (request, reply) => {
    // Without a tenant there is nobody to tell but Fastify.
    const tenantRequest = tenantOf(request)
    let admitted: Admitted
    try {
      admitted = await admit(fromNodeRequest(request.raw), tenantRequest, request.routeOptions?.url)
    } catch (error) {
      return answer(error, request, reply)
    }
    if (reply.raw.closed) {
      // The client went away meanwhile: nobody waits for the handler, which would not be booked any more.
      await admitted.finish(503)
      reply.code(503)
      return reply.send('')
    }
    // Also when the client goes away: the work is done.
    reply.raw.once('close', () => void admitted.finish(reply.raw.statusCode))
    for (const [field, value] of Object.entries(admitted.headers)) {
      const before = reply.getHeader(field)
      reply.headers(joinHeaders(typeof before === 'string' ? { [field]: before } : {}, { [field]: value }))
    }
    return undefined
  }
}

function answer(error: unknown, request: FastifyRequestLike, reply: FastifyReplyLike): unknown {
  const known = knownOf(request)
  known?.tell(error)
  const { problem, headers } = toProblem(error, { requestId: known?.requestId })
  reply.code(problem.status)
  reply.headers(headers as Record<string, string>)
  return reply.send(JSON.stringify(problem))
}
