// What middleware is told is checked when it is made: a limit or a source whose variable is not set is never left out.
import { describe, expect, test } from 'vitest'
import * as express from '../../src/express/index.ts'
import * as fastify from '../../src/fastify/index.ts'
import * as hono from '../../src/hono/index.ts'
import { createTenantRequestResolver, fromApiKey, tenantHandler } from '../../src/http/index.ts'
import { tenantRoute } from '../../src/next/index.ts'
import { tenantSockets } from '../../src/ws/index.ts'
import { useRowhouse } from '../audit/support.ts'
import { useDatabase } from '../setup/database.ts'

const fixture = useRowhouse(useDatabase())
const unset = process.env.ROWHOUSE_TEST_NEVER_SET
const answer = () => new Response('fine')

const MAKERS: Record<string, (options: any) => unknown> = {
  createTenantRequestResolver: (options) => createTenantRequestResolver(fixture.rowhouse, options),
  tenantHandler: (options) => tenantHandler(fixture.rowhouse, options, answer),
  tenantRoute: (options) => tenantRoute(fixture.rowhouse, options),
  tenantSockets: (options) => tenantSockets(fixture.rowhouse, options),
  'tenantMiddleware of Express': (options) => express.tenantMiddleware(fixture.rowhouse, options),
  'tenantMiddleware of Hono': (options) => hono.tenantMiddleware(fixture.rowhouse, options),
  tenantPlugin: (options) => fastify.tenantPlugin(fixture.rowhouse, options),
}

const refused = (make: () => unknown, message: RegExp) => {
  expect(make).toThrow(expect.objectContaining({ code: 'invalid_argument', message: expect.stringMatching(message) }))
}

describe.each(Object.entries(MAKERS))('%s', (name, make) => {
  test('refuses options that can not be', () => {
    expect(() => make({ resolve: fromApiKey(), cacheMs: undefined, trustUnauthenticated: undefined })).not.toThrow()
    refused(() => make(unset), /needs an object/)
    refused(() => make({}), /resolve/)
    refused(() => make({ resolve: unset }), /resolve .* undefined/)
    refused(() => make({ resolve: fromApiKey }), /resolve .* is not a resolver/)
    refused(() => make({ resolve: fromApiKey(), cacheMs: Number(unset) }), /cacheMs .* is not a number/)
    refused(() => make({ resolve: fromApiKey(), cacheMs: Number.POSITIVE_INFINITY }), /cacheMs/)
    refused(() => make({ resolve: fromApiKey(), listen: 'false' }), /listen .* neither true nor false/)
    refused(() => make({ resolve: fromApiKey(), trustUnauthenticated: ['headers'] }), /is not one of subdomain/)
    if (name === 'createTenantRequestResolver') return
    refused(() => make({ resolve: fromApiKey(), onErorr: () => {} }), /has no option onErorr/)
  })
})

test.each(['tenantHandler', 'tenantRoute'])('%s refuses limits that are not there', (name) => {
  const make = MAKERS[name]!
  const resolve = fromApiKey()
  expect(() => make({ resolve, rateLimit: {}, quota: {} })).not.toThrow()
  refused(() => make({ resolve, rateLimit: unset }), /rateLimit .* undefined/)
  refused(() => make({ resolve, quota: unset }), /quota .* undefined/)
  refused(() => make({ resolve, quota: { units: { tokens: unset } } }), /quota.units/)
  refused(() => make({ resolve, rateLimits: {} }), /has no option rateLimits/)
})

test('a limit of one route that is undefined does not take the common one away', () => {
  const route = tenantRoute(fixture.rowhouse, { resolve: fromApiKey(), rateLimit: {} })
  refused(() => route(answer, { rateLimit: unset } as object), /rateLimit .* undefined/)
  expect(() => route(answer, { quota: {} })).not.toThrow()
})

test.each([
  ['rateLimitMiddleware of Express', express.rateLimitMiddleware],
  ['rateLimitMiddleware of Hono', hono.rateLimitMiddleware],
  ['rateLimitHook', fastify.rateLimitHook],
])('%s refuses options that can not be', (_name, make: (options: any) => unknown) => {
  expect(() => make({ name: undefined, subject: 'user', cost: () => 2 })).not.toThrow()
  refused(() => make({ windows: unset }), /windows .* undefined/)
  refused(() => make({ windows: [] }), /windows .* is empty/)
  refused(() => make({ window: [] }), /has no option window/)
  refused(() => make({ subject: 'ip' }), /subject .* is not tenant/)
  refused(() => make({ cost: Number(unset) }), /cost/)
})

test.each([
  ['quotaMiddleware of Express', express.quotaMiddleware],
  ['quotaMiddleware of Hono', hono.quotaMiddleware],
  ['quotaHook', fastify.quotaHook],
])('%s refuses options that can not be', (_name, make: (options: any) => unknown) => {
  expect(() => make({ units: { tokens: 1, money: '0.5' }, leaseMs: undefined })).not.toThrow()
  refused(() => make({ units: unset }), /units .* undefined/)
  refused(() => make({ units: { tokens: unset } }), /units/)
  refused(() => make({ units: { tokens: Number(unset) } }), /units/)
  refused(() => make({ model: unset }), /model .* undefined/)
  refused(() => make({ leaseMs: Number(unset) }), /leaseMs .* is not a whole number/)
})

test('sockets wait for a number of milliseconds', () => {
  const resolve = fromApiKey()
  refused(() => MAKERS.tenantSockets!({ resolve, timeoutMs: Number(unset) }), /timeoutMs .* is not a whole number/)
})
