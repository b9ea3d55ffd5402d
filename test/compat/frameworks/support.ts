import type { Server } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { sql } from 'kysely'
import { createRowhouseError, type Rowhouse, type TenantContext } from 'rowhouse'
import { firstOf, fromApiKey, fromPath, fromSubdomain, requireAgreement } from 'rowhouse/http'
import { beforeAll, expect, test } from 'vitest'

/** What each application of the frameworks does, whatever it is written with. */
export const resolve = requireAgreement(fromApiKey(), firstOf(fromPath(), fromSubdomain({ domain: 'example.com' })))

export async function whoAmI(tenant: TenantContext): Promise<{ tenant: string; request: string }> {
  const { rows } = await sql<{ tenant: string; request: string }>`
    select current_setting('app.tenant_id') as tenant, current_setting('app.request_id') as request`.execute(tenant.db)
  return rows[0]!
}

export function fail(kind: string): never {
  if (kind === 'conflict') throw createRowhouseError('settings_conflict', 'somebody was faster')
  throw new Error('password of the database')
}

export interface App {
  /** `http://127.0.0.1:port` */
  readonly url: string
  readonly close: () => Promise<void>
}

export function urlOf(server: Server): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

/** Routes that every application has: `GET /who`, `POST /echo`, `GET /fail/:kind`. */
export function describeAdapter(rowhouse: () => Rowhouse, open: () => Promise<App>, { stripsPath = false } = {}): void {
  let app: App
  const keys: Record<string, string> = {}
  beforeAll(async () => {
    app = await open()
    for (const tenantId of ['acme', 'globex']) {
      keys[tenantId] = (await rowhouse().apiKeys.issue(tenantId, { name: 'compat' })).key
    }
    keys.local = (await rowhouse().apiKeys.issue('acme', { name: 'local', allowedIps: ['127.0.0.0/8'] })).key
    keys.elsewhere = (await rowhouse().apiKeys.issue('acme', { name: 'elsewhere', allowedIps: ['10.0.0.0/8'] })).key
    return () => app.close()
  })
  const get = (path: string, headers: Record<string, string> = {}, init: RequestInit = {}) =>
    fetch(`${app.url}${path}`, { ...init, headers })

  test('a request runs as the tenant of its key', async () => {
    for (const tenantId of ['acme', 'globex']) {
      const response = await get('/who', { authorization: `Bearer ${keys[tenantId]}`, 'x-request-id': 'r_7' })
      expect(response.status).toBe(200)
      expect(await response.json()).toEqual({ tenant: tenantId, request: 'r_7' })
    }
  })

  test('many requests of two tenants at once are never mixed up', async () => {
    const requests = Array.from({ length: 60 }, async (_, index) => {
      const tenantId = index % 2 === 0 ? 'acme' : 'globex'
      const response = await get('/who', { 'x-api-key': keys[tenantId]!, 'x-request-id': `r_${index}` })
      expect(await response.json()).toEqual({ tenant: tenantId, request: `r_${index}` })
    })
    await Promise.all(requests)
  })

  test('without a key, or with a wrong one, the answer is a problem', async () => {
    for (const [headers, code] of [
      [{}, 'unauthenticated'],
      [{ 'x-api-key': 'wrong' }, 'invalid_api_key'],
    ] as const) {
      const response = await get('/who', headers)
      expect(response.status).toBe(401)
      expect(response.headers.get('content-type')).toContain('application/problem+json')
      expect(response.headers.get('www-authenticate')).toBe('Bearer')
      expect(await response.json()).toMatchObject({ status: 401, code })
    }
  })

  test('the address of the client is that of the socket', async () => {
    expect((await get('/who', { 'x-api-key': keys.local! })).status).toBe(200)
    expect((await get('/who', { 'x-api-key': keys.elsewhere!, 'x-forwarded-for': '10.0.0.1' })).status).toBe(401)
  })

  test("another tenant's address is a page that doesn't exist", async () => {
    const headers = { 'x-api-key': keys.acme! }
    expect((await get('/t/globex/who', headers)).status).toBe(404)
    expect((await get('/t/nobody/who', headers)).status).toBe(404)
    const own = await get('/t/acme/who', headers)
    expect(own.status).toBe(stripsPath ? 200 : 404)
  })

  test('the host of the request counts, and one that is none is refused', async () => {
    const send = (host: string) =>
      new Promise<string>((resolveStatus, reject) => {
        const { hostname, port } = new URL(app.url)
        const socket = connect(Number(port), hostname, () => {
          socket.write(`GET /who HTTP/1.1\r\nHost: ${host}\r\nX-API-Key: ${keys.acme}\r\nConnection: close\r\n\r\n`)
        })
        let text = ''
        socket.on('data', (data) => {
          text += data
        })
        socket.on('end', () => resolveStatus(text.split(' ')[1]!))
        socket.on('error', reject)
      })
    expect(await send('acme.example.com')).toBe('200')
    expect(await send('globex.example.com')).toBe('404')
    expect(await send('acme.example.com@globex.example.com')).toBe('400')
    expect(await send('globex.example.com/x?')).toBe('400')
  })

  test('a body reaches the handler', async () => {
    const response = await get(
      '/echo',
      { 'x-api-key': keys.acme!, 'content-type': 'application/json' },
      { method: 'POST', body: '{"text":"hello"}' },
    )
    expect(await response.json()).toEqual({ tenant: 'acme', text: 'hello' })
  })

  test('what a handler throws is a problem, and what is not of rowhouse tells nothing', async () => {
    const conflict = await get('/fail/conflict', { 'x-api-key': keys.acme! })
    expect(conflict.status).toBe(409)
    expect(conflict.headers.get('content-type')).toContain('application/problem+json')
    expect(await conflict.json()).toMatchObject({ code: 'settings_conflict', detail: 'somebody was faster' })
    const internal = await get('/fail/other', { 'x-api-key': keys.acme! })
    expect(internal.status).toBe(500)
    expect(await internal.text()).not.toContain('password')
  })

  test('a suspended tenant is refused', async () => {
    await rowhouse().tenants.suspend('globex')
    try {
      // A key of a suspended tenant is not valid: the caller learns no more.
      expect((await get('/who', { 'x-api-key': keys.globex! })).status).toBe(401)
      expect((await get('/who', { 'x-api-key': keys.acme! })).status).toBe(200)
    } finally {
      await rowhouse().tenants.resume('globex')
    }
  })
}
