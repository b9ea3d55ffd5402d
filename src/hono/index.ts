/**
 * Middleware for Hono 4.
 *
 * @module
 */
import { problemResponse } from '../http/problem.ts'
import { attachTenant } from '../http/tenant-of.ts'
import { createTenantRequestResolver, type RequestOrigin, type TenantRequestOptions } from '../http/tenant-request.ts'
import type { Rowhouse } from '../rowhouse.ts'

export { tenantOf } from '../http/tenant-of.ts'

/** What the middleware needs of a context of Hono. */
export interface HonoContextLike {
  readonly req: { readonly raw: Request }
}

export interface HonoOptions<Context extends HonoContextLike = HonoContextLike> extends TenantRequestOptions {
  /** The address of the client: `(c) => ({ ip: getConnInfo(c).remote.address })`. Needed by keys with networks. */
  readonly origin?: ((context: Context) => RequestOrigin) | undefined
}

/**
 * Finds the tenant of each request; handlers get it from `tenantOf(c)`. A request without one is answered with a problem
 * (RFC 9457) and goes no further. No transaction is open around a handler.
 *
 * @example
 * ```ts
 * import { problemHandler, tenantMiddleware, tenantOf } from 'rowhouse/hono'
 * import { fromApiKey } from 'rowhouse/http'
 *
 * const middleware = tenantMiddleware(rowhouse, { resolve: fromApiKey() })   // app.use(middleware)
 * const onError = problemHandler()                                           // app.onError(onError)
 * const handler = async (c: object) => {                                     // app.get('/invoices', handler)
 *   const { tenant } = tenantOf<AppTables>(c)
 *   return Response.json(await tenant.db.selectFrom('invoices').selectAll().execute())
 * }
 * ```
 */
export function tenantMiddleware<DB, Context extends HonoContextLike = HonoContextLike>(
  rowhouse: Rowhouse<DB>,
  options: HonoOptions<Context>,
): (context: Context, next: () => Promise<void>) => Promise<Response | undefined> {
  const resolveRequest = createTenantRequestResolver(rowhouse, options)
  return async function rowhouseTenant(context, next) {
    try {
      attachTenant(context, await resolveRequest(context.req.raw, options.origin?.(context)))
    } catch (error) {
      return problemResponse(error)
    }
    await next()
    return undefined
  }
}

/** For `app.onError`: answers what handlers throw with a problem. Of errors that are not of rowhouse it tells nothing. */
export function problemHandler({
  onError,
}: {
  readonly onError?: ((error: unknown) => void) | undefined
} = {}): (error: Error) => Response {
  return function rowhouseProblem(error) {
    onError?.(error)
    // An HTTPException of Hono brings its own answer.
    const { getResponse } = error as { getResponse?: () => Response }
    return typeof getResponse === 'function' ? getResponse.call(error) : problemResponse(error)
  }
}
