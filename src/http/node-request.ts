import type { IncomingMessage } from 'node:http'
import { createRowhouseError } from '../errors.ts'

/** A host as clients send it: a name or an address, and a port. Nothing that a URL would read as something else. */
const HOST = /^([\w.-]+|\[[0-9a-f:.]+\])(:\d{1,5})?$/i

/** A request of Node as a Fetch request without body: what resolvers look at. */
export function fromNodeRequest(message: IncomingMessage, target = message.url ?? '/'): Request {
  const host = message.headers[':authority'] ?? message.headers.host ?? 'localhost'
  const protocol = 'encrypted' in message.socket ? 'https' : 'http'
  if (typeof host !== 'string' || !HOST.test(host) || !target.startsWith('/')) {
    throw createRowhouseError('invalid_request', 'The request has no valid host and path.')
  }
  const headers = new Headers()
  for (const [name, value] of Object.entries(message.headers)) {
    if (name.startsWith(':') || value === undefined) continue
    for (const item of [value].flat()) headers.append(name, item)
  }
  return new Request(`${protocol}://${host}${target}`, { headers })
}
