import { createRowhouseError } from '../errors.ts'
import { knownOf } from './error-listener.ts'
import type { TenantRequest } from './tenant-request.ts'

/** Remembers whose a request of a framework is. */
export function attachTenant(request: object, tenantRequest: TenantRequest): void {
  const known = knownOf(request)
  if (known !== undefined) known.tenantRequest = tenantRequest
}

/**
 * Whose request it is, for handlers behind the middleware of a framework. Throws when the middleware did not run.
 *
 * @param request The request of Express or Fastify, the context of Hono.
 */
export function tenantOf<DB = any>(request: object): TenantRequest<DB> {
  const found = knownOf(request)?.tenantRequest
  if (found === undefined) {
    throw createRowhouseError('no_tenant_context', 'The tenant middleware did not run for this request.', {
      hint: 'Register it before the route.',
    })
  }
  return found as TenantRequest<DB>
}
