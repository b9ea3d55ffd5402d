import * as z from 'zod'
import { bearerToken } from './bearer-token.ts'
import type { TenantResolver } from './resolver.ts'
import { fieldName, parseSetupOptions, texts } from './setup-options.ts'

const apiKeyOptions = z.strictObject({ header: fieldName.optional(), scopes: texts.exactOptional() })

export interface ApiKeyResolverOptions {
  /** A header for keys, besides `Authorization: Bearer`. Default `X-API-Key`. */
  readonly header?: string | undefined
  /** What every request needs: all of them. Left out: nothing; undefined is refused. */
  readonly scopes?: readonly string[]
}

/** An API key of rowhouse: in `Authorization: Bearer rh_...` or in `X-API-Key`. */
export function fromApiKey(options: ApiKeyResolverOptions = {}): TenantResolver {
  const { header = 'X-API-Key', scopes = [] } = parseSetupOptions('fromApiKey', apiKeyOptions, options)
  return {
    unauthenticated: [],
    authenticates: true,
    resolve: async (request, { ip, authenticateApiKey }) => {
      const token = bearerToken(request)
      // Any other bearer token is for somebody else to look at.
      const key = request.headers.get(header) ?? (token?.startsWith('rh_') ? token : undefined)
      if (key === undefined) return undefined
      const apiKey = await authenticateApiKey(key, { ip, scopes })
      return { tenantId: apiKey.tenantId, authenticated: true, source: 'api_key', apiKey }
    },
  }
}
