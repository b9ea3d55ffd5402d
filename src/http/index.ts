/**
 * Whose request is it: resolvers, and a handler for Fetch requests. Adapters: `rowhouse/express`, `rowhouse/fastify`,
 * `rowhouse/hono`.
 *
 * @module
 */
export { firstOf, requireAgreement } from '../resolve/combine.ts'
export {
  type DomainOptions,
  fromDomain,
  fromPath,
  fromSubdomain,
  type PathOptions,
  type SubdomainOptions,
} from '../resolve/from-address.ts'
export { type ApiKeyResolverOptions, fromApiKey } from '../resolve/from-api-key.ts'
export { fromJwt, type JwtOptions } from '../resolve/from-jwt.ts'
export {
  type FunctionAnswer,
  type FunctionOptions,
  fromEnvironment,
  fromFunction,
  fromHeader,
  fromQuery,
} from '../resolve/from-request.ts'
export type { ResolveContext, ResolvedTenant, TenantResolver, UnauthenticatedSource } from '../resolve/resolver.ts'
export type { LimitOptions, LimitSubject, OfRequest, RequestQuota, RequestRateLimit } from './admission.ts'
export {
  type Problem,
  type ProblemAnswer,
  problemResponse,
  toProblem,
} from './problem.ts'
export { type RateLimitWindowLike, rateLimitHeaders } from './rate-limit-headers.ts'
export { type TenantHandler, type TenantHandlerOptions, tenantHandler } from './tenant-handler.ts'
export { tenantOf } from './tenant-of.ts'
export {
  createTenantRequestResolver,
  type RequestOrigin,
  type TenantRequest,
  type TenantRequestOptions,
  type TenantRequestResolver,
} from './tenant-request.ts'
