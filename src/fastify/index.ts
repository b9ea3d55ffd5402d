/**
 * A plugin for Fastify 4 and 5.
 *
 * @module
 */
import type { IncomingMessage } from 'node:http'
import { fromNodeRequest } from '../http/node-request.ts'
import { toProblem } from '../http/problem.ts'
import { attachTenant } from '../http/tenant-of.ts'
import { createTenantRequestResolver, type TenantRequestOptions } from '../http/tenant-request.ts'
import type { Rowhouse } from '../rowhouse.ts'

export { tenantOf } from '../http/tenant-of.ts'

/** What the plugin needs of a request of Fastify. */
export interface FastifyRequestLike {
  readonly raw: IncomingMessage
  /** As Fastify says, which depends on its option `trustProxy`. */
  readonly ip: string
  readonly id: unknown
}

export interface FastifyReplyLike {
  code(status: number): unknown
  headers(values: Record<string, string>): unknown
  send(payload: string): unknown
}

/** What the plugin needs of an instance of Fastify. */
export interface FastifyLike {
  addHook(name: 'onRequest', hook: (request: FastifyRequestLike, reply: FastifyReplyLike) => Promise<unknown>): unknown
  setErrorHandler(handler: (error: unknown, request: FastifyRequestLike, reply: FastifyReplyLike) => unknown): unknown
}

export interface FastifyOptions extends TenantRequestOptions {
  /** Told of every error that becomes an answer, for your log. */
  readonly onError?: ((error: unknown, request: FastifyRequestLike) => void) | undefined
}

/**
 * Finds the tenant of each request; handlers get it from `tenantOf(request)`. A request without one is answered with a
 * problem (RFC 9457), and so is what handlers throw. No transaction is open around a handler.
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
  const resolveRequest = createTenantRequestResolver(rowhouse, options)
  const answer = (error: unknown, request: FastifyRequestLike, reply: FastifyReplyLike) => {
    options.onError?.(error, request)
    const { problem, headers } = toProblem(error)
    reply.code(problem.status)
    reply.headers(headers as Record<string, string>)
    return reply.send(JSON.stringify(problem))
  }
  const plugin = async (instance: FastifyLike) => {
    instance.addHook('onRequest', async (request, reply) => {
      try {
        attachTenant(request, await resolveRequest(fromNodeRequest(request.raw), { ip: request.ip }))
        return undefined
      } catch (error) {
        return answer(error, request, reply)
      }
    })
    instance.setErrorHandler((error, request, reply) => {
      // What Fastify itself refuses (a body that is no JSON) has a status of its own.
      const { statusCode } = error as { statusCode?: unknown }
      if (typeof statusCode === 'number' && statusCode < 500) throw error
      return answer(error, request, reply)
    })
  }
  // Holds for the whole instance, not only for what is registered inside of the plugin.
  return Object.assign(plugin, { [Symbol.for('skip-override')]: true })
}
