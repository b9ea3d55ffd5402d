import { setTimeout as delay } from 'node:timers/promises'
import { SignJWT } from 'jose'
import { sql } from 'kysely'
import { expect, test } from 'vitest'
import {
  createTenantRequestResolver,
  firstOf,
  fromApiKey,
  fromEnvironment,
  fromHeader,
  fromJwt,
  fromPath,
  requireAgreement,
  tenantHandler,
} from '../../src/http/index.ts'
import { createRowhouseError, getCurrentTenant, type TenantContext } from '../../src/index.ts'
import { ACME, GLOBEX, useRowhouse } from '../audit/support.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'

const database = useDatabase()
const fixture = useRowhouse(database)
const SECRET = new TextEncoder().encode('a secret of thirty-two bytes or more')
const jwt = fromJwt({ issuer: 'i', audience: 'a', secret: SECRET, algorithms: ['HS256'] })
const token = (tenantId: string) =>
  new SignJWT({ tenant_id: tenantId, sub: 'u_1' })
    .setProtectedHeader({ alg: 'HS256' })
    .setIssuer('i')
    .setAudience('a')
    .setExpirationTime('5 minutes')
    .sign(SECRET)

/** Who the database says is at work. */
const whoAmI = async (tenant: TenantContext) => {
  const { rows } = await sql<{ tenant: string; user: string; request: string }>`
    select current_setting('app.tenant_id') as tenant, current_setting('app.user_id') as user,
      current_setting('app.request_id') as request`.execute(tenant.db)
  return rows[0]!
}

const handlerOf = (options: Partial<Parameters<typeof tenantHandler>[1]> = {}) =>
  tenantHandler(fixture.rowhouse, { resolve: firstOf(fromApiKey(), jwt), ...options }, async (request, { tenant }) =>
    Response.json({ ...(await whoAmI(tenant)), path: new URL(request.url).pathname }),
  )

const get = (headers: Record<string, string>, path = '/') => new Request(`https://api.example.com${path}`, { headers })

test('a request with a token, or with a key, runs as its tenant and user', async () => {
  const handler = handlerOf()
  const response = await handler(get({ authorization: `Bearer ${await token(ACME)}`, 'x-request-id': 'r_9' }))
  expect(response.status).toBe(200)
  expect(await response.json()).toEqual({ tenant: ACME, user: 'u_1', request: 'r_9', path: '/' })
  const { key } = await fixture.rowhouse.apiKeys.issue(GLOBEX, { name: 'http' })
  for (const headers of [{ authorization: `Bearer ${key}` }, { 'x-api-key': key }]) {
    expect(await (await handler(get(headers))).json()).toMatchObject({ tenant: GLOBEX, user: '' })
  }
})

test('the request id of a caller is taken when it is plain, and made otherwise', async () => {
  const handler = handlerOf()
  const authorization = `Bearer ${await token(ACME)}`
  for (const given of ['<script>', 'x'.repeat(300), 'a b']) {
    const { request } = (await (await handler(get({ authorization, 'x-request-id': given }))).json()) as {
      request: string
    }
    expect(request).toMatch(/^[0-9a-f-]{36}$/)
  }
})

test.each<[string, () => Promise<Record<string, string>> | Record<string, string>, number, string]>([
  ['nothing', () => ({}), 401, 'unauthenticated'],
  ['a wrong key', () => ({ 'x-api-key': 'rh_free_acme_0123456789abcdef_x' }), 401, 'invalid_api_key'],
  ['a wrong token', () => ({ authorization: 'Bearer x.y.z' }), 401, 'invalid_token'],
  ['a token of no tenant', async () => ({ authorization: `Bearer ${await token('nobody')}` }), 404, 'tenant_not_found'],
  ['a token of a bad id', async () => ({ authorization: `Bearer ${await token('../x')}` }), 400, 'invalid_tenant_id'],
])('with %s the answer is a problem', async (_what, headers, status, code) => {
  const response = await handlerOf()(get({ ...(await headers()), 'x-request-id': 'r_5' }))
  expect(response.status).toBe(status)
  expect(response.headers.get('content-type')).toBe('application/problem+json')
  expect(response.headers.get('www-authenticate')).toBe(status === 401 ? 'Bearer' : null)
  expect(await response.json()).toEqual({
    type: `urn:rowhouse:problem:${code}`,
    title: expect.any(String),
    status,
    detail: expect.any(String),
    code,
    requestId: 'r_5',
  })
})

test('a header alone is believed only when it is trusted by name', async () => {
  expect(() => handlerOf({ resolve: fromHeader() })).toThrow(/from the header of a request, which anybody can write/)
  expect(() =>
    handlerOf({ resolve: firstOf(jwt, fromHeader(), fromPath()), trustUnauthenticated: ['header'] }),
  ).toThrow(/from the path/)
  const trusting = handlerOf({ resolve: fromHeader(), trustUnauthenticated: ['header'] })
  expect(await (await trusting(get({ 'x-tenant-id': ACME }))).json()).toMatchObject({ tenant: ACME })
  const response = await trusting(get({}))
  expect(response.status).toBe(400)
  expect(await response.json()).toMatchObject({ code: 'tenant_required' })
})

test('a path or a header that disagrees with the token is refused', async () => {
  const handler = handlerOf({ resolve: requireAgreement(jwt, fromPath(), fromHeader()), stripPath: true })
  const authorization = `Bearer ${await token(ACME)}`
  expect(await (await handler(get({ authorization }, '/t/acme/invoices?x=1'))).json()).toMatchObject({
    path: '/invoices',
  })
  for (const tenantId of [GLOBEX, 'nobody']) {
    const byPath = await handler(get({ authorization }, `/t/${tenantId}/invoices`))
    expect(byPath.status).toBe(404)
    expect(await byPath.text()).not.toContain(tenantId)
    expect((await handler(get({ authorization, 'x-tenant-id': tenantId }))).status).toBe(403)
  }
  expect((await handler(get({}, '/t/acme/invoices'))).status).toBe(401)
})

test('a deployment with one tenant needs neither trust nor proof', async () => {
  const handler = handlerOf({ resolve: fromEnvironment() })
  expect(await (await handler(get({ 'x-tenant-id': ACME }))).json()).toMatchObject({ tenant: 'default' })
})

/** Asked as the login whose connections they are: other logins are not shown what a backend does. */
async function idleInTransaction(): Promise<readonly unknown[]> {
  const { rows } = await fixture.app.query(
    "select from pg_stat_activity where datname = current_database() and state like 'idle in transaction%'",
  )
  return rows
}

test('no transaction and no tenant is around the handler', async () => {
  const handler = tenantHandler(fixture.rowhouse, { resolve: jwt }, async (_request, { tenant }) => {
    expect(getCurrentTenant()).toBeUndefined()
    expect(await idleInTransaction()).toEqual([])
    return Response.json((await whoAmI(tenant)).tenant)
  })
  expect(await (await handler(get({ authorization: `Bearer ${await token(ACME)}` }))).json()).toBe(ACME)
})

test('the control: a transaction around it would be seen', needs('parallelBackends'), async () => {
  const handler = tenantHandler(fixture.rowhouse, { resolve: jwt }, (_request, { tenantId }) =>
    fixture.rowhouse.withTenant(tenantId, async (db) => {
      await sql`select 1`.execute(db)
      return Response.json((await idleInTransaction()).length)
    }),
  )
  expect(await (await handler(get({ authorization: `Bearer ${await token(ACME)}` }))).json()).toBe(1)
})

test('what a handler throws is a problem; what is not of rowhouse tells nothing', async () => {
  const seen: unknown[] = []
  const failing = (error: unknown) =>
    tenantHandler(fixture.rowhouse, { resolve: jwt, onError: (reason) => seen.push(reason) }, () => {
      throw error
    })
  const request = async () => get({ authorization: `Bearer ${await token(ACME)}` })
  const internal = new Error('password of the database')
  const unknown = await failing(internal)(await request())
  expect(unknown.status).toBe(500)
  expect(await unknown.json()).toEqual({
    type: 'about:blank',
    title: 'Internal error',
    status: 500,
    requestId: expect.any(String),
  })
  expect(seen).toEqual([internal])
  const missing = await failing(createRowhouseError('collection_not_found', 'no such collection'))(await request())
  expect(missing.status).toBe(404)
  expect(await missing.json()).toMatchObject({ code: 'collection_not_found', detail: 'no such collection' })
  const inside = await failing(createRowhouseError('role_not_restricted', 'the role owner may everything'))(
    await request(),
  )
  expect(inside.status).toBe(500)
  expect(await inside.text()).not.toContain('may everything')
  const unavailable = await failing(createRowhouseError('connection_failed', 'db7.internal is down'))(await request())
  expect(unavailable.status).toBe(503)
  expect(unavailable.headers.get('retry-after')).toBe('1')
  expect(await unavailable.text()).not.toContain('db7')
})

test('a handler that answers nothing is a 500, and what it had reserved is given back', async () => {
  const { rowhouse } = fixture
  await rowhouse.quotas.define('pages_of_all_time', { metric: 'pages', period: 'total' })
  await rowhouse.quotas.set(GLOBEX, 'pages_of_all_time', { limit: 10 })
  const headers = { authorization: `Bearer ${await token(GLOBEX)}` }
  const pages = async () => {
    const quotas = await rowhouse.tenant(GLOBEX).budget.checkQuotas()
    const { used, reserved } = quotas.find(({ name }) => name === 'pages_of_all_time')!
    return { used, reserved }
  }
  for (const answer of [undefined, null, 'fine', {}, Response.error()]) {
    const seen: unknown[] = []
    const onError = (error: unknown) => {
      seen.push(error)
      throw new Error('the log is full')
    }
    const options = { resolve: jwt, quota: { units: { pages: 4 } }, onError }
    const response = await tenantHandler(rowhouse, options, () => answer as Response)(get(headers))
    expect(response.status).toBe(500)
    expect(seen).toMatchObject([{ message: 'The handler returned no Response.' }])
    expect(await pages()).toEqual({ used: 0, reserved: 0 })
  }
  // The control: an answer uses what was reserved.
  const options = { resolve: jwt, quota: { units: { pages: 4 } } }
  expect((await tenantHandler(rowhouse, options, () => new Response(null))(get(headers))).status).toBe(200)
  expect(await pages()).toEqual({ used: 4, reserved: 0 })
})

test('a limit tells when to come back, and how the windows stand', async () => {
  const windows = [
    { limit: 10, windowMs: 1000, remaining: 0, resetMs: 900 },
    { limit: 100, windowMs: 60_000, remaining: 42, resetMs: 59_001 },
  ]
  const limited = Object.assign(createRowhouseError('too_many_attempts', 'slow down'), {
    retryAfterMs: 1200,
    result: { windows },
  })
  const handler = tenantHandler(fixture.rowhouse, { resolve: jwt }, () => {
    throw limited
  })
  const response = await handler(get({ authorization: `Bearer ${await token(ACME)}` }))
  expect(response.status).toBe(429)
  expect(response.headers.get('retry-after')).toBe('2')
  expect(response.headers.get('ratelimit-policy')).toBe('"1000ms";q=10;w=1, "60000ms";q=100;w=60')
  expect(response.headers.get('ratelimit')).toBe('"1000ms";r=0;t=1, "60000ms";r=42;t=60')
})

test('a suspension holds at once for statements, and after cacheMs for handlers without any', async () => {
  const { tenants } = fixture.rowhouse
  await tenants.provision('pausing')
  const headers = { authorization: `Bearer ${await token('pausing')}` }
  const querying = handlerOf({ resolve: jwt, cacheMs: 300 })
  const idle = tenantHandler(fixture.rowhouse, { resolve: jwt, cacheMs: 300 }, () => new Response('fine'))
  expect((await querying(get(headers))).status).toBe(200)
  expect((await idle(get(headers))).status).toBe(200)
  await tenants.suspend('pausing')
  expect((await querying(get(headers))).status).toBe(403)
  await delay(310)
  const refused = await idle(get(headers))
  expect(refused.status).toBe(403)
  expect(await refused.json()).toMatchObject({ code: 'tenant_suspended' })
  await tenants.resume('pausing')
  expect((await idle(get(headers))).status).toBe(200)
})

test('that a tenant may work is remembered, so most requests ask nothing', async () => {
  let statements = 0
  const kysely = (tenantId: string) => {
    statements++
    return fixture.rowhouse.kysely(tenantId)
  }
  const counting = { ...fixture.rowhouse, kysely }
  const resolve = createTenantRequestResolver(counting, { resolve: jwt, cacheMs: 60_000 })
  const authorization = `Bearer ${await token(ACME)}`
  for (let call = 0; call < 5; call++) expect(await resolve(get({ authorization }))).toMatchObject({ tenantId: ACME })
  expect(statements).toBe(1)
})
