import { parseTenantId } from '../context/context-options.ts'
import type { ApiKey, AuthenticateOptions } from '../keys/api-keys.ts'

/** How a request can name a tenant without proving anything. */
export type UnauthenticatedSource = 'subdomain' | 'domain' | 'path' | 'header' | 'query' | 'function'

/** Whose request it is, as one resolver sees it. */
export interface ResolvedTenant {
  readonly tenantId: string
  /** Whether the caller proved that he belongs to the tenant. */
  readonly authenticated: boolean
  /** Which resolver said so. */
  readonly source: UnauthenticatedSource | 'jwt' | 'api_key' | 'fixed'
  readonly userId?: string | undefined
  /** The key that was shown. */
  readonly apiKey?: ApiKey | undefined
  /** The claims of the token that was shown. */
  readonly claims?: Readonly<Record<string, unknown>> | undefined
  /** The path without what named the tenant. */
  readonly path?: string | undefined
}

/** What a resolver may use besides the request. */
export interface ResolveContext {
  /** Where the request comes from, as far as the server knows. */
  readonly ip: string | undefined
  /** Looks at an API key. */
  readonly authenticateApiKey: (key: string, options?: AuthenticateOptions) => Promise<ApiKey>
}

/** One way to find out whose request it is. Made by the functions of `rowhouse/http`; used by any number of requests. */
export interface TenantResolver {
  /** Ways of naming a tenant that this resolver believes without a proof: each must be trusted by name. */
  readonly unauthenticated: readonly UnauthenticatedSource[]
  /** Whether it can authenticate a caller: then a request without a tenant is answered with 401. */
  readonly authenticates: boolean
  /** Whether it finds a tenant for whoever asks, as `fromEnvironment` does. Default false. */
  readonly admitsAnyone?: boolean | undefined
  /** The tenant, or undefined when the request says nothing that this resolver looks at. */
  resolve(request: Request, context: ResolveContext): Promise<ResolvedTenant | undefined>
}

/** A resolver that reads an id from a request and believes it. */
export function readingResolver(
  source: UnauthenticatedSource,
  read: (
    request: Request,
  ) =>
    | Promise<string | { tenantId: string; path: string } | null | undefined>
    | string
    | { tenantId: string; path: string }
    | null
    | undefined,
): TenantResolver {
  return {
    unauthenticated: [source],
    authenticates: false,
    resolve: async (request) => {
      const found = await read(request)
      if (found === undefined || found === null) return undefined
      const { tenantId, path } = typeof found === 'string' ? { tenantId: found, path: undefined } : found
      return { tenantId: parseTenantId(tenantId), authenticated: false, source, path }
    },
  }
}
