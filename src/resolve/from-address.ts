import * as z from 'zod'
import { createRowhouseError } from '../errors.ts'
import { readingResolver, type TenantResolver } from './resolver.ts'
import { func, parseSetupOptions, text, texts } from './setup-options.ts'

const subdomainOptions = z.strictObject({ domain: text, ignore: texts.optional() })
const domainOptions = z.strictObject({ lookup: func })
const pathOptions = z.strictObject({ prefix: z.string('is not text').optional() })

export interface SubdomainOptions {
  /** The domain under which tenants have theirs: `example.com` for `acme.example.com`. Its port makes no difference. */
  readonly domain: string
  /** Subdomains that are no tenants, in capitals or not. Default `www`, `api`, `app`. */
  readonly ignore?: readonly string[] | undefined
}

/**
 * The subdomain: `acme` of `acme.example.com`. Host names have no capitals, so tenant ids with some are not found.
 *
 * @example
 * ```ts
 * import { fromSubdomain } from 'rowhouse/http'
 *
 * const resolve = fromSubdomain({ domain: 'example.com' })
 * ```
 */
export function fromSubdomain(options: SubdomainOptions): TenantResolver {
  const { domain, ignore = ['www', 'api', 'app'] } = parseSetupOptions('fromSubdomain', subdomainOptions, options)
  const ending = `.${normalizeDomain(domain)}`
  const ignored = new Set(ignore.map((name) => name.toLowerCase()))
  return readingResolver('subdomain', (request) => {
    const host = hostOf(request)
    const name = host.endsWith(ending) ? host.slice(0, -ending.length) : ''
    // More than one label is somebody's further subdomain, not a tenant.
    return name === '' || name.includes('.') || ignored.has(name) ? undefined : name
  })
}

export interface DomainOptions {
  /** The tenant of a host name in small letters; undefined or null when it is none's. */
  readonly lookup: (host: string) => Promise<string | null | undefined> | string | null | undefined
}

/**
 * A domain of the tenant's own, which you look up.
 *
 * @example
 * ```ts
 * import { fromDomain } from 'rowhouse/http'
 *
 * const domains = new Map([['docs.acme.example', 'acme']])
 * const resolve = fromDomain({ lookup: (host) => domains.get(host) })
 * ```
 */
export function fromDomain(options: DomainOptions): TenantResolver {
  const { lookup } = parseSetupOptions('fromDomain', domainOptions, options)
  return readingResolver('domain', (request) => lookup(hostOf(request)))
}

export interface PathOptions {
  /** What stands before the tenant. Default `/t`. */
  readonly prefix?: string | undefined
}

/**
 * The path: `acme` of `/t/acme/invoices`. The rest, `/invoices`, is the `path` of the resolved tenant; `tenantHandler`
 * and the middleware of Express can strip it from the request.
 */
export function fromPath(options: PathOptions = {}): TenantResolver {
  const { prefix = '/t' } = parseSetupOptions('fromPath', pathOptions, options)
  if (!/^(\/[\w.~-]+)*$/.test(prefix)) {
    throw createRowhouseError('invalid_argument', 'The prefix of a path begins with a slash and ends with none: /t.')
  }
  return readingResolver('path', (request) => {
    const { pathname } = new URL(request.url)
    if (!pathname.startsWith(`${prefix}/`)) return undefined
    const [segment = '', ...rest] = pathname.slice(prefix.length + 1).split('/')
    return segment === '' ? undefined : { tenantId: decode(segment), path: `/${rest.join('/')}` }
  })
}

/** The domain as it stands in the host names of requests. One that could match none would never disagree with anybody. */
function normalizeDomain(domain: string): string {
  const given = domain.trim().replace(/^\./, '')
  const url = /^[^/?#@\\*[\]]+$/.test(given) ? URL.parse(`http://${given}`) : null
  const host = url?.hostname.replace(/\.$/, '') ?? ''
  if (host === '' || /(^|\.)\.|^[\d.]+$/.test(host)) {
    throw createRowhouseError('invalid_argument', 'The domain of fromSubdomain is a host name, such as example.com.')
  }
  return host
}

function hostOf(request: Request): string {
  return new URL(request.url).hostname.toLowerCase().replace(/\.$/, '')
}

/** What can not be decoded is no tenant id, and is refused as one. */
function decode(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    return segment
  }
}
