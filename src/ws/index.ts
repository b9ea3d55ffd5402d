/**
 * WebSockets of the package `ws`: whose connection it is, by the request that opens it, or by its first message; and the
 * connections of a tenant, on all processes.
 *
 * @module
 */
import { type IncomingMessage, STATUS_CODES } from 'node:http'
import type { Duplex } from 'node:stream'
import * as z from 'zod'
import { parseTenantId } from '../context/context-options.ts'
import { createRowhouseError } from '../errors.ts'
import { type ErrorListener, tellSafely } from '../http/error-listener.ts'
import { fromNodeRequest } from '../http/node-request.ts'
import { toProblem } from '../http/problem.ts'
import { assertRequestOptions, listenerOptions, originOptions } from '../http/request-options.ts'
import {
  createTenantRequestResolver,
  type RequestOrigin,
  requestIdOfNode,
  type TenantRequest,
  type TenantRequestOptions,
} from '../http/tenant-request.ts'
import type { Rowhouse } from '../rowhouse.ts'

export {
  type LiveSocket,
  type TenantConnection,
  TenantConnections,
  type TenantConnectionsOptions,
} from './tenant-connections.ts'

/** What is needed of a WebSocket of `ws`. */
export interface SocketLike {
  on(event: 'message' | 'close', listener: (...values: any[]) => void): unknown
  off(event: 'message' | 'close', listener: (...values: any[]) => void): unknown
  emit(event: 'message', ...values: any[]): unknown
  send(text: string): void
  close(code: number, reason?: string): void
  pause(): void
  resume(): void
}

export interface TenantSocketOptions extends TenantRequestOptions {
  /** How long `authenticate` waits for the first message. Default 10 000. */
  readonly timeoutMs?: number | undefined
  /**
   * The address of the client, for API keys with networks and for counting guesses: behind a proxy that of the header which
   * your proxy sets. Default: the address of the socket.
   */
  readonly origin?: ((request: IncomingMessage) => RequestOrigin) | undefined
  /** Told of every error that becomes an answer, for your log, with the id of the request that stands in the answer. */
  readonly onError?: ErrorListener<IncomingMessage> | undefined
}

/** Finds the tenants of WebSockets. */
export interface TenantSockets<DB> {
  /**
   * The tenant of the request that opens a socket, for clients that can send headers. A request without one is answered
   * with a problem, and its connection closed; then there is nothing more to do.
   */
  upgrade(request: IncomingMessage, connection: Duplex): Promise<TenantRequest<DB> | undefined>
  /**
   * The tenant of an open socket, for browsers, which can't send headers: by its first message,
   * `{ "action": "auth", "token": "...", "tenantId": "acme" }`. The token is looked at as `Authorization: Bearer`, the
   * tenant as `X-Tenant-ID`, by the resolver of the options; a tenant that is not the one of the token is refused, whatever
   * the resolver looks at. The client gets `{ "action": "auth", "ok": true }`, or the
   * problem, after which the socket is closed with 4000 + the HTTP status; then there is nothing more to do.
   */
  authenticate(socket: SocketLike, request: IncomingMessage): Promise<TenantRequest<DB> | undefined>
}

/** Longer first messages are no authentication. */
const MAX_LENGTH = 16_384

const authMessage = z.object({
  action: z.literal('auth'),
  // What a header field can hold.
  token: z.string().regex(/^[\x21-\x7e]+$/),
  tenantId: z.string().optional(),
})

/**
 * Finds the tenants of WebSockets.
 *
 * @example
 * ```ts
 * import { createServer } from 'node:http'
 * import { fromApiKey, fromHeader, requireAgreement } from 'rowhouse/http'
 * import { tenantSockets } from 'rowhouse/ws'
 *
 * const sockets = tenantSockets(rowhouse, { resolve: requireAgreement(fromApiKey(), fromHeader()) })
 * createServer().on('upgrade', async (request, connection, head) => {
 *   const tenantRequest = await sockets.upgrade(request, connection)
 *   if (tenantRequest === undefined) return
 *   logger.info({ tenantId: tenantRequest.tenantId, bytes: head.length }, 'connected') // server.handleUpgrade(...)
 * })
 * ```
 */
export function tenantSockets<DB>(rowhouse: Rowhouse<DB>, options: TenantSocketOptions): TenantSockets<DB> {
  const timeout = z.int('is not a whole number').min(1, 'is not positive').max(3_600_000, 'is more than an hour')
  assertRequestOptions('tenantSockets', options, {
    timeoutMs: timeout.optional(),
    ...listenerOptions,
    ...originOptions,
  })
  const resolveRequest = createTenantRequestResolver(rowhouse, options)
  const { timeoutMs = 10_000, origin, onError } = options
  const requestIdOf = (request: IncomingMessage) => requestIdOfNode(request, options.requestIdHeader)
  const originOf = (request: IncomingMessage, requestId: string) => ({
    ip: request.socket.remoteAddress,
    requestId,
    ...origin?.(request),
  })
  return {
    async upgrade(request, connection) {
      // A client that goes away meanwhile must not end the process.
      connection.on('error', () => {})
      const requestId = requestIdOf(request)
      try {
        return await resolveRequest(fromNodeRequest(request), originOf(request, requestId))
      } catch (error) {
        tellSafely(onError, error, request, requestId)
        refuseUpgrade(connection, error, requestId)
        return undefined
      }
    },
    async authenticate(socket, request) {
      // Messages that came in one packet with the first one are delivered whether anybody listens or not.
      const early: unknown[][] = []
      const keep = (...message: unknown[]) => early.push(message)
      const requestId = requestIdOf(request)
      try {
        const { token, tenantId } = await firstMessage(socket, timeoutMs, keep)
        const headers = new Headers(fromNodeRequest(request).headers)
        headers.set('authorization', `Bearer ${token}`)
        headers.delete('x-api-key')
        if (tenantId === undefined) headers.delete('x-tenant-id')
        else headers.set('x-tenant-id', parseTenantId(tenantId))
        const seen = new Request(fromNodeRequest(request), { headers })
        const tenantRequest = await resolveRequest(seen, originOf(request, requestId))
        // Also when the resolver looks at no header: a client that was told another tenant must not go on as this one.
        if (tenantId !== undefined && tenantId !== tenantRequest.tenantId) {
          throw createRowhouseError('tenant_disagreement', 'The tenant of the message is not the one of the caller.')
        }
        socket.off('message', keep)
        socket.send(JSON.stringify({ action: 'auth', ok: true, tenantId: tenantRequest.tenantId }))
        // The caller listens as soon as he has the answer; after that come the early messages, then all others.
        setImmediate(() => {
          for (const message of early) socket.emit('message', ...message)
          socket.resume()
        })
        return tenantRequest
      } catch (error) {
        socket.off('message', keep)
        tellSafely(onError, error, request, requestId)
        const { problem } = toProblem(error, { requestId })
        socket.send(JSON.stringify({ action: 'auth', ok: false, problem }))
        socket.resume()
        socket.close(4000 + problem.status, problem.title)
        return undefined
      }
    },
  }
}

/** The first message of a socket, which is paused then; `keep` gets those that come all the same. */
function firstMessage(
  socket: SocketLike,
  timeoutMs: number,
  keep: (...message: unknown[]) => void,
): Promise<z.output<typeof authMessage>> {
  return new Promise((resolve, reject) => {
    const settle = (work: () => void) => {
      clearTimeout(timer)
      socket.off('message', read)
      socket.off('close', closed)
      work()
    }
    const refuse = (message: string) => settle(() => reject(createRowhouseError('unauthenticated', message)))
    const read = (data: { toString(): string; readonly length?: number }) => {
      socket.pause()
      socket.on('message', keep)
      const message = (data.length ?? 0) > MAX_LENGTH ? undefined : parseMessage(data.toString())
      if (message === undefined) refuse('The first message is not an authentication.')
      else settle(() => resolve(message))
    }
    const closed = () => refuse('The connection was closed.')
    const timer = setTimeout(() => refuse(`There was no authentication within ${timeoutMs} ms.`), timeoutMs)
    socket.on('message', read)
    socket.on('close', closed)
  })
}

function parseMessage(text: string): z.output<typeof authMessage> | undefined {
  try {
    return authMessage.safeParse(JSON.parse(text)).data
  } catch {
    return undefined
  }
}

function refuseUpgrade(connection: Duplex, error: unknown, requestId: string): void {
  const { problem, headers } = toProblem(error, { requestId })
  const body = JSON.stringify(problem)
  const lines = Object.entries({ ...headers, 'Content-Length': String(Buffer.byteLength(body)), Connection: 'close' })
  const status = `HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status] ?? ''}`
  connection.end([status, ...lines.map(([name, value]) => `${name}: ${value}`), '', body].join('\r\n'))
}
