import { createRowhouseError } from '../errors.ts'
import type { ResolvedTenant, TenantResolver } from './resolver.ts'

/**
 * The first of several resolvers that finds something in the request. One that finds something wrong (an expired token)
 * is an error: the next one is not asked.
 *
 * @example
 * ```ts
 * import { firstOf, fromApiKey, fromJwt } from 'rowhouse/http'
 *
 * const issuer = 'https://login.example.com/'
 * const identity = firstOf(
 *   fromApiKey(),
 *   fromJwt({ jwksUrl: `${issuer}jwks.json`, issuer, audience: 'api', algorithms: ['ES256'] }),
 * )
 * ```
 */
export function firstOf(...resolvers: readonly TenantResolver[]): TenantResolver {
  if (resolvers.length === 0) throw createRowhouseError('invalid_argument', 'firstOf needs a resolver.')
  for (const resolver of resolvers) assertResolver(resolver, 'firstOf')
  return {
    unauthenticated: resolvers.flatMap(({ unauthenticated }) => unauthenticated),
    authenticates: resolvers.some(({ authenticates }) => authenticates),
    admitsAnyone: resolvers.some(({ admitsAnyone }) => admitsAnyone),
    resolve: async (request, context) => {
      for (const resolver of resolvers) {
        const found = await resolver.resolve(request, context)
        if (found !== undefined) return found
      }
      return undefined
    },
  }
}

/**
 * The tenant of `identity`, which must prove it; wherever else the request names a tenant, it must name the same one.
 * So a header or a path never chooses a tenant, and one that disagrees is refused: as a page that doesn't exist where it
 * is part of the address, with 403 elsewhere.
 *
 * @example
 * ```ts
 * import { fromApiKey, fromHeader, fromPath, requireAgreement } from 'rowhouse/http'
 *
 * const resolve = requireAgreement(fromApiKey(), fromPath(), fromHeader())
 * ```
 */
export function requireAgreement(identity: TenantResolver, ...claims: readonly TenantResolver[]): TenantResolver {
  for (const resolver of [identity, ...claims]) assertResolver(resolver, 'requireAgreement')
  // Also each part of firstOf: one that proves nothing would let in who shows nothing.
  if (!identity.authenticates || identity.admitsAnyone || identity.unauthenticated.length > 0) {
    throw createRowhouseError('invalid_argument', 'The first resolver of requireAgreement must prove who asks.', {
      hint: 'Put fromJwt, fromApiKey or an authenticated fromFunction first, and what it must agree with after it.',
    })
  }
  return {
    // What must agree is not believed.
    unauthenticated: [],
    authenticates: true,
    resolve: async (request, context): Promise<ResolvedTenant | undefined> => {
      const identified = await identity.resolve(request, context)
      // A resolver of your own may say that it proves, and then not do so.
      if (identified?.authenticated !== true) return undefined
      let { path } = identified
      for (const claim of claims) {
        const claimed = await claim.resolve(request, context)
        if (claimed === undefined) continue
        if (claimed.tenantId !== identified.tenantId) throw disagreement(claimed)
        path ??= claimed.path
      }
      return { ...identified, path }
    },
  }
}

function assertResolver(resolver: unknown, maker: string): void {
  if (typeof (resolver as Partial<TenantResolver> | null | undefined)?.resolve === 'function') return
  throw createRowhouseError('invalid_argument', `Every argument of ${maker} is a resolver, such as fromApiKey().`)
}

function disagreement({ source }: ResolvedTenant): Error {
  const isAddress = source === 'path' || source === 'subdomain' || source === 'domain'
  return isAddress
    ? createRowhouseError('resource_not_found', 'There is nothing at this address.')
    : createRowhouseError('tenant_disagreement', `The tenant that the ${source} names is not the one of the caller.`)
}
