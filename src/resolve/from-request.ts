import * as z from 'zod'
import { parseTenantId } from '../context/context-options.ts'
import { createRowhouseError } from '../errors.ts'
import { type ResolvedTenant, readingResolver, type TenantResolver } from './resolver.ts'
import { fieldName, func, parseSetupOptions, text, yesOrNo } from './setup-options.ts'

const headerOptions = z.strictObject({ name: fieldName.optional() })
const queryOptions = z.strictObject({ name: text.optional() })
const functionOptions = z.strictObject({ find: func, authenticated: yesOrNo })

/** A header. Default `X-Tenant-ID`. Sent twice, it is no tenant id, and refused. */
export function fromHeader(options: { readonly name?: string | undefined } = {}): TenantResolver {
  const { name = 'X-Tenant-ID' } = parseSetupOptions('fromHeader', headerOptions, options)
  return readingResolver('header', (request) => request.headers.get(name) ?? undefined)
}

/** A parameter of the query. Default `tenant`. Named twice, it is refused. */
export function fromQuery(options: { readonly name?: string | undefined } = {}): TenantResolver {
  const { name = 'tenant' } = parseSetupOptions('fromQuery', queryOptions, options)
  return readingResolver('query', (request) => {
    const values = new URL(request.url).searchParams.getAll(name)
    if (values.length > 1) {
      throw createRowhouseError('invalid_tenant_id', `The parameter ${name} names more than one tenant.`)
    }
    return values[0]
  })
}

export interface FunctionOptions {
  /** Whether the function proves who asks: by a session cookie, for example. */
  readonly authenticated: boolean
}

/** What a function of your own may answer. */
export interface FunctionAnswer {
  readonly tenantId: string
  readonly userId?: string | null | undefined
}

/**
 * Anything else: a function of yours.
 *
 * @example
 * ```ts
 * import { fromFunction } from 'rowhouse/http'
 *
 * const sessions = new Map([['s_1', { tenantId: 'acme', userId: 'u_1' }]])
 * const resolve = fromFunction((request) => sessions.get(request.headers.get('cookie') ?? ''), { authenticated: true })
 * ```
 */
export function fromFunction(
  find: (request: Request) => Promise<FunctionAnswer | null | undefined> | FunctionAnswer | null | undefined,
  options: FunctionOptions,
): TenantResolver {
  const { authenticated } = parseSetupOptions('fromFunction', functionOptions, { find, ...options })
  return {
    unauthenticated: authenticated ? [] : ['function'],
    authenticates: authenticated,
    resolve: async (request): Promise<ResolvedTenant | undefined> => {
      const found = await find(request)
      if (found === undefined || found === null) return undefined
      const { tenantId, userId } = found
      return { tenantId: parseTenantId(tenantId), userId: userId ?? undefined, authenticated, source: 'function' }
    },
  }
}

/**
 * Always the same tenant, for a deployment that has one: `ROWHOUSE_TENANT_ID`, or `default`. Says nothing about who
 * asks.
 */
export function fromEnvironment(tenantId: string = process.env.ROWHOUSE_TENANT_ID ?? 'default'): TenantResolver {
  const id = parseTenantId(tenantId)
  return {
    unauthenticated: [],
    authenticates: false,
    admitsAnyone: true,
    resolve: async () => ({ tenantId: id, authenticated: false, source: 'fixed' }),
  }
}
