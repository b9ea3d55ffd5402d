import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { sql } from 'kysely'
import type { Units } from '../budgets/units.ts'
import type { TenantContext } from '../context/tenant-context.ts'
import { createRowhouseError } from '../errors.ts'
import type { ApiKey } from '../keys/api-keys.ts'
import type { ResolvedTenant, TenantResolver, UnauthenticatedSource } from '../resolve/resolver.ts'
import type { Rowhouse } from '../rowhouse.ts'
import { assertCommonOptions } from './request-options.ts'
import { TenantDirectory } from './tenant-directory.ts'

/** How requests find their tenants. */
export interface TenantRequestOptions {
  readonly resolve: TenantResolver
  /**
   * Ways of naming a tenant that are believed although nobody proved anything: because a gateway in front of this server
   * authenticates, or because what it serves is public. Without this, a resolver such as `fromHeader()` is refused
   * when the server starts.
   */
  readonly trustUnauthenticated?: readonly UnauthenticatedSource[] | undefined
  /**
   * Milliseconds for which it is remembered that a tenant may work; every statement is checked all the same. Default 1000,
   * with `listen` a minute.
   */
  readonly cacheMs?: number | undefined
  /**
   * Hears of suspensions at once, by NOTIFY on a connection of its own: for handlers that may run without any statement.
   * Poolers in transaction mode don't support it. Default false.
   */
  readonly listen?: boolean | undefined
  /** The header that names the request, for log and audit trail. Default `X-Request-ID`; without one, a new id. */
  readonly requestIdHeader?: string | undefined
}

/** Whose request it is. */
export interface TenantRequest<DB = any> {
  /** The tenant's database and modules; each call is a transaction of its own. Nothing is open around the handler. */
  readonly tenant: TenantContext<DB>
  readonly tenantId: string
  readonly userId: string | undefined
  readonly requestId: string
  /** Whether the caller proved that he belongs to the tenant. */
  readonly authenticated: boolean
  readonly source: ResolvedTenant['source']
  readonly apiKey: ApiKey | undefined
  /** Of the token. */
  readonly claims: Readonly<Record<string, unknown>> | undefined
  /** The path without what named the tenant, when it was the path. */
  readonly path: string | undefined
  /**
   * What the handler really used, which is booked in place of what its quota had reserved. The last call counts, before the
   * answer is sent (Express, Fastify) or returned (Fetch, Hono, Next.js): what a stream uses after it was returned is for
   * `tenant.budget`, not for the quota of the request. When the client went away without a report, all that was reserved is
   * booked.
   */
  readonly reportUsage: (units: Units) => void
  /** Lets `rowhouse.close()` wait for work that goes on after the answer. Its failure is yours to report. */
  readonly waitUntil: (work: Promise<unknown>) => void
}

/** What a server knows besides the request. */
export interface RequestOrigin {
  readonly ip?: string | undefined
  readonly requestId?: string | undefined
}

/** Finds the tenant of a request, or fails with the error to answer. */
export type TenantRequestResolver<DB> = (request: Request, origin?: RequestOrigin) => Promise<TenantRequest<DB>>

/**
 * The core of every middleware. Throws now when a resolver believes what nobody proved and isn't trusted by name, and when
 * an option is wrong.
 */
export function createTenantRequestResolver<DB>(
  rowhouse: Rowhouse<DB>,
  options: TenantRequestOptions,
): TenantRequestResolver<DB> {
  assertCommonOptions('createTenantRequestResolver', options)
  const { resolve, trustUnauthenticated = [], cacheMs, listen = false, requestIdHeader } = options
  const untrusted = resolve.unauthenticated.filter((source) => !trustUnauthenticated.includes(source))
  if (untrusted.length > 0) {
    throw createRowhouseError(
      'invalid_argument',
      `The tenant would be believed from the ${untrusted.join(', the ')} of a request, which anybody can write.`,
      {
        hint: `Authenticate: requireAgreement(fromJwt(...), ...). Or, when something else does: trustUnauthenticated: ${JSON.stringify(untrusted).replaceAll('"', "'")}.`,
      },
    )
  }
  const directory = new TenantDirectory({
    check: async (tenantId) => {
      // The prelude of the transaction asks whether the tenant may work.
      await sql`select`.execute(rowhouse.kysely(tenantId))
    },
    cacheMs: cacheMs ?? 1000,
    cacheListeningMs: cacheMs ?? 60_000,
  })
  if (listen) rowhouse.watchTenants(directory)
  const authenticateApiKey = rowhouse.apiKeys.authenticate.bind(rowhouse.apiKeys)
  return async (request, origin = {}) => {
    const requestId = origin.requestId ?? requestIdOf(request, requestIdHeader)
    const resolved = await resolve.resolve(request, { ip: origin.ip, authenticateApiKey })
    if (resolved === undefined) {
      throw resolve.authenticates
        ? createRowhouseError('unauthenticated', 'The request shows no valid credentials.')
        : createRowhouseError('tenant_required', 'The request names no tenant.')
    }
    const { tenantId, authenticated, source, userId, apiKey, claims, path } = resolved
    if (source === 'api_key') directory.remember(tenantId)
    else await directory.assertActive(tenantId)
    const tenant = rowhouse.tenant(tenantId, { userId, requestId })
    const made: TenantRequest<DB> = {
      tenant,
      tenantId,
      userId,
      requestId,
      authenticated,
      source,
      apiKey,
      claims,
      path,
      reportUsage: (units) => void reports.set(made, units),
      waitUntil: (work) => rowhouse.waitUntil(work),
    }
    return made
  }
}

const reports = new WeakMap<TenantRequest, Units>()

/** What the handler of a request reported. */
export function reportedUsage(tenantRequest: TenantRequest): Units | undefined {
  return reports.get(tenantRequest)
}

/** What a caller may call his request: it ends up in logs, so nothing but plain characters. */
export function requestIdOf(request: Request, header = 'X-Request-ID'): string {
  return plainRequestId(request.headers.get(header))
}

/** The same of a request of Node. */
export function requestIdOfNode({ headers }: IncomingMessage, header = 'X-Request-ID'): string {
  return plainRequestId(headers[header.toLowerCase()])
}

function plainRequestId(given: unknown): string {
  return typeof given === 'string' && /^[\w.:+/=-]{1,200}$/.test(given) ? given : randomUUID()
}
