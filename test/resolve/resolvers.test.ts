// Each resolver by itself: what it reads, what it leaves to others, what it refuses. None of these needs a database.
import { expect, test } from 'vitest'
import {
  firstOf,
  fromDomain,
  fromEnvironment,
  fromFunction,
  fromHeader,
  fromPath,
  fromQuery,
  fromSubdomain,
  requireAgreement,
  type TenantResolver,
} from '../../src/http/index.ts'

const CONTEXT = { ip: undefined, authenticateApiKey: () => Promise.reject(new Error('not asked')) }

const resolve = (resolver: TenantResolver, url: string, headers: Record<string, string> = {}) =>
  resolver.resolve(new Request(url, { headers }), CONTEXT)

const proven = fromFunction(
  (request) => {
    const tenantId = request.headers.get('x-proven')
    return tenantId === null ? undefined : { tenantId, userId: 'u_1' }
  },
  { authenticated: true },
)

test.each([
  ['https://acme.example.com/', 'acme'],
  ['https://ACME.Example.COM:8443/x?y', 'acme'],
  ['https://acme.example.com./', 'acme'],
  ['https://under_score-1.example.com/', 'under_score-1'],
  ['https://example.com/', undefined],
  ['https://www.example.com/', undefined],
  ['https://a.b.example.com/', undefined],
  ['https://acme.example.com.evil.net/', undefined],
  ['https://acmeexample.com/', undefined],
  ['https://127.0.0.1/', undefined],
])('the subdomain of %s is %s', async (url, tenantId) => {
  expect((await resolve(fromSubdomain({ domain: 'example.com' }), url))?.tenantId).toBe(tenantId)
})

test.each([
  ['.example.com', 'https://acme.example.com/'],
  ['Example.COM.', 'https://acme.example.com/'],
  ['localhost:3000', 'http://acme.localhost:3000/'],
  ['münchen.example', 'https://acme.xn--mnchen-3ya.example/'],
])('under the domain %s, however it is written, a subdomain is found, and can disagree', async (domain, url) => {
  expect(await resolve(fromSubdomain({ domain }), url)).toMatchObject({ tenantId: 'acme' })
  const agreeing = requireAgreement(proven, fromSubdomain({ domain }))
  expect(await resolve(agreeing, url, { 'x-proven': 'acme' })).toMatchObject({ tenantId: 'acme' })
  await expect(resolve(agreeing, url, { 'x-proven': 'globex' })).rejects.toMatchObject({ httpStatus: 404 })
})

test('subdomains that are no tenants may be written with capitals', async () => {
  const resolver = fromSubdomain({ domain: 'example.com', ignore: ['Status'] })
  expect(await resolve(resolver, 'https://status.example.com/')).toBeUndefined()
})

test('who finds nothing may say null', async () => {
  expect(await resolve(fromDomain({ lookup: async () => null }), 'https://x/')).toBeUndefined()
  expect(
    await resolve(
      fromFunction(async () => null, { authenticated: true }),
      'https://x/',
    ),
  ).toBeUndefined()
  const anonymous = fromFunction(() => ({ tenantId: 'acme', userId: null }), { authenticated: true })
  expect(await resolve(anonymous, 'https://x/')).toMatchObject({ tenantId: 'acme', userId: undefined })
})

test('a domain is looked up in small letters', async () => {
  const resolver = fromDomain({ lookup: async (host) => ({ 'docs.acme.example': 'acme' })[host] })
  expect(await resolve(resolver, 'https://Docs.Acme.Example/x')).toEqual({
    tenantId: 'acme',
    authenticated: false,
    source: 'domain',
    path: undefined,
  })
  expect(await resolve(resolver, 'https://other.example/')).toBeUndefined()
})

test.each([
  ['/t/acme/invoices/7', 'acme', '/invoices/7'],
  ['/t/acme', 'acme', '/'],
  ['/t/acme/', 'acme', '/'],
  ['/t/ac%6De/a%2Fb', 'acme', '/a%2Fb'],
  ['/t/', undefined, undefined],
  ['/t', undefined, undefined],
  ['/tenants/acme', undefined, undefined],
  ['/x/t/acme', undefined, undefined],
  ['//t/acme', undefined, undefined],
])('the path %s names %s', async (path, tenantId, rest) => {
  const found = await resolve(fromPath(), `https://example.com${path}`)
  expect([found?.tenantId, found?.path]).toEqual([tenantId, rest])
})

test('the prefix of a path may be longer, or nothing', async () => {
  expect(await resolve(fromPath({ prefix: '/v1/tenants' }), 'https://x/v1/tenants/acme/a')).toMatchObject({
    path: '/a',
  })
  expect(await resolve(fromPath({ prefix: '' }), 'https://x/acme/a')).toMatchObject({ tenantId: 'acme', path: '/a' })
  expect(() => fromPath({ prefix: 't/' })).toThrow(/begins with a slash/)
})

test('headers and parameters, under names of your own', async () => {
  expect(await resolve(fromHeader(), 'https://x/', { 'X-Tenant-ID': 'acme' })).toMatchObject({ tenantId: 'acme' })
  expect(await resolve(fromHeader({ name: 'X-Org' }), 'https://x/', { 'x-org': 'acme' })).toMatchObject({
    source: 'header',
  })
  expect(await resolve(fromHeader(), 'https://x/')).toBeUndefined()
  expect(await resolve(fromQuery(), 'https://x/?tenant=acme')).toMatchObject({ tenantId: 'acme', source: 'query' })
  expect(await resolve(fromQuery({ name: 'org' }), 'https://x/?tenant=acme')).toBeUndefined()
  await expect(resolve(fromQuery(), 'https://x/?tenant=acme&tenant=globex')).rejects.toMatchObject({ httpStatus: 400 })
})

test.each([
  ['a header', fromHeader(), 'https://x/', { 'X-Tenant-ID': 'acme, globex' }],
  ['an empty header', fromHeader(), 'https://x/', { 'X-Tenant-ID': '' }],
  ['a path', fromPath(), "https://x/t/acme'%3B--/", {}],
  ['a path that can not be decoded', fromPath(), 'https://x/t/%E0%A4%A/', {}],
  ['a path with an encoded slash', fromPath(), 'https://x/t/acme%2Fglobex', {}],
  ['a parameter', fromQuery(), 'https://x/?tenant=ac%00me', {}],
  ['a function', proven, 'https://x/', { 'x-proven': '../acme' }],
])('%s that is no tenant id is refused', async (_what, resolver, url, headers) => {
  await expect(resolve(resolver, url, headers as Record<string, string>)).rejects.toMatchObject({
    code: 'invalid_tenant_id',
  })
})

test('a deployment with one tenant', async () => {
  expect(await resolve(fromEnvironment(), 'https://x/')).toMatchObject({ tenantId: 'default', authenticated: false })
  expect(await resolve(fromEnvironment('only'), 'https://x/')).toMatchObject({ tenantId: 'only' })
  expect(() => fromEnvironment('no tenant')).toThrow(/tenant id/)
})

test('the first that finds something decides, and an error ends the search', async () => {
  const failing = fromFunction(() => Promise.reject(new Error('session store is down')), { authenticated: true })
  const chain = firstOf(proven, fromHeader(), fromQuery())
  expect(chain.unauthenticated).toEqual(['header', 'query'])
  expect(await resolve(chain, 'https://x/?tenant=q', { 'x-proven': 'p', 'X-Tenant-ID': 'h' })).toMatchObject({
    tenantId: 'p',
  })
  expect(await resolve(chain, 'https://x/?tenant=q', { 'X-Tenant-ID': 'h' })).toMatchObject({ tenantId: 'h' })
  expect(await resolve(chain, 'https://x/?tenant=q')).toMatchObject({ tenantId: 'q' })
  expect(await resolve(chain, 'https://x/')).toBeUndefined()
  await expect(resolve(firstOf(failing, proven), 'https://x/', { 'x-proven': 'p' })).rejects.toThrow('session store')
})

test('what the request says besides must agree with the proven tenant', async () => {
  const resolver = requireAgreement(proven, fromPath(), fromSubdomain({ domain: 'example.com' }), fromHeader())
  expect(resolver.unauthenticated).toEqual([])
  const headers = { 'x-proven': 'acme' }
  expect(await resolve(resolver, 'https://acme.example.com/t/acme/x', { ...headers, 'X-Tenant-ID': 'acme' })).toEqual({
    tenantId: 'acme',
    authenticated: true,
    source: 'function',
    userId: 'u_1',
    path: '/x',
  })
  expect(await resolve(resolver, 'https://api.example.com/x', headers)).toMatchObject({
    tenantId: 'acme',
    path: undefined,
  })
  // Where it is part of the address, the page doesn't exist; whether the tenant does makes no difference.
  for (const url of [
    'https://example.com/t/globex/x',
    'https://globex.example.com/x',
    'https://example.com/t/nobody',
  ]) {
    await expect(resolve(resolver, url, headers), url).rejects.toMatchObject({
      httpStatus: 404,
      message: expect.not.stringContaining('globex'),
    })
  }
  await expect(resolve(resolver, 'https://x/', { ...headers, 'X-Tenant-ID': 'globex' })).rejects.toMatchObject({
    code: 'tenant_disagreement',
    httpStatus: 403,
  })
  // Without a proof nothing else is looked at.
  expect(await resolve(resolver, 'https://x/t/acme', { 'X-Tenant-ID': 'acme' })).toBeUndefined()
})

test('what proves nothing can not be the identity', () => {
  expect(() => requireAgreement(fromHeader(), fromPath())).toThrow(/must prove who asks/)
  expect(() => requireAgreement(firstOf(proven, fromHeader()), fromPath())).toThrow(/must prove who asks/)
  expect(() => requireAgreement(fromFunction(() => undefined, { authenticated: false }))).toThrow(/must prove/)
  expect(() => requireAgreement(fromEnvironment('acme'))).toThrow(/must prove/)
  expect(() => requireAgreement(firstOf(proven, fromEnvironment('acme')))).toThrow(/must prove who asks/)
  expect(() => requireAgreement(firstOf(firstOf(proven), firstOf(fromEnvironment('acme'))))).toThrow(/must prove/)
})

test('a resolver of your own that says that it proves, and does not, is nobody', async () => {
  const own = (authenticated: boolean): TenantResolver => ({
    unauthenticated: [],
    authenticates: true,
    resolve: async () => ({ tenantId: 'acme', authenticated, source: 'function' }),
  })
  expect(await resolve(requireAgreement(own(false)), 'https://x/')).toBeUndefined()
  expect(await resolve(requireAgreement(own(true)), 'https://x/')).toMatchObject({ tenantId: 'acme' })
})
