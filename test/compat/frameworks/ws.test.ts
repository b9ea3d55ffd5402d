import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { sql } from 'kysely'
import { fromApiKey, fromHeader, requireAgreement } from 'rowhouse/http'
import { tenantSockets } from 'rowhouse/ws'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type RawData, WebSocket, WebSocketServer } from 'ws'
import { useRowhouse } from '../../audit/support.ts'
import { useDatabase } from '../../setup/database.ts'

const database = useDatabase()
const fixture = useRowhouse(database)
const server = createServer()
const webSockets = new WebSocketServer({ noServer: true })
const keys: Record<string, string> = {}
const told: unknown[] = []
let url: string

beforeAll(async () => {
  const resolve = requireAgreement(fromApiKey(), fromHeader())
  const sockets = tenantSockets(fixture.rowhouse, { resolve, timeoutMs: 300 })
  // Looks at no tenant that the client names, and is behind a proxy.
  const byKey = tenantSockets(fixture.rowhouse, {
    resolve: fromApiKey(),
    timeoutMs: 300,
    origin: ({ headers }) => ({ ip: String(headers['x-real-ip'] ?? '') }),
    onError: (error, _request, requestId) => told.push([(error as { code?: unknown }).code, requestId]),
  })
  server.on('upgrade', async (request, connection, head) => {
    const byMessage = request.url !== '/'
    const upgraded = byMessage ? undefined : await sockets.upgrade(request, connection)
    if (!byMessage && upgraded === undefined) return
    webSockets.handleUpgrade(request, connection, head, async (socket) => {
      const tenantRequest = upgraded ?? (await (request.url === '/key' ? byKey : sockets).authenticate(socket, request))
      if (tenantRequest === undefined) return
      // Answers in the order of the messages, whichever query ends first.
      let answered = Promise.resolve()
      socket.on('message', (data: RawData) => {
        const asked = sql<{ tenant: string }>`select current_setting('app.tenant_id') as tenant`.execute(
          tenantRequest.tenant.db,
        )
        answered = answered.then(async () => {
          const { rows } = await asked
          socket.send(JSON.stringify({ tenant: rows[0]!.tenant, echo: data.toString() }))
        })
      })
    })
  })
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
  url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}`
  for (const tenantId of ['acme', 'globex']) {
    keys[tenantId] = (await fixture.rowhouse.apiKeys.issue(tenantId, { name: 'ws' })).key
  }
})
afterAll(() => {
  for (const client of webSockets.clients) client.terminate()
  server.closeAllConnections()
  server.close()
})

/** Sends messages and resolves to what came back, and to the code of the close when the server closed. */
async function talk(path: string, messages: string[], replies: number, headers: Record<string, string> = {}) {
  const socket = new WebSocket(`${url}${path}`, { headers })
  const received: any[] = []
  const outcome = await new Promise<{ received: any[]; code?: number; status?: number; body?: string }>((resolve) => {
    socket.on('open', () => {
      for (const message of messages) socket.send(message)
    })
    socket.on('message', (data) => {
      received.push(JSON.parse(data.toString()))
      if (received.length === replies) resolve({ received })
    })
    socket.on('close', (code) => resolve({ received, code }))
    socket.on('error', () => {})
    socket.on('unexpected-response', (_request, response) => {
      let body = ''
      response.on('data', (chunk) => {
        body += chunk
      })
      response.on('end', () => resolve({ received, status: response.statusCode!, body }))
    })
  })
  socket.terminate()
  return outcome
}

const auth = (token: string, tenantId?: string) => JSON.stringify({ action: 'auth', token, tenantId })

test('a socket that is opened with a key works as its tenant', async () => {
  for (const tenantId of ['acme', 'globex']) {
    const { received } = await talk('/', ['hello'], 1, { 'x-api-key': keys[tenantId]! })
    expect(received).toEqual([{ tenant: tenantId, echo: 'hello' }])
  }
})

test('an upgrade without a key, or with a header that disagrees, is answered with a problem', async () => {
  const none = await talk('/', [], 1)
  expect(none.status).toBe(401)
  expect(JSON.parse(none.body!)).toMatchObject({ code: 'unauthenticated' })
  const other = await talk('/', [], 1, { 'x-api-key': keys.acme!, 'x-tenant-id': 'globex' })
  expect(other.status).toBe(403)
})

test('a browser authenticates by its first message, and what it sent right after it is not lost', async () => {
  const { received } = await talk('/browser', [auth(keys.acme!, 'acme'), 'one', 'two'], 3)
  expect(received).toEqual([
    { action: 'auth', ok: true, tenantId: 'acme' },
    { tenant: 'acme', echo: 'one' },
    { tenant: 'acme', echo: 'two' },
  ])
  expect((await talk('/browser', [auth(keys.globex!)], 1)).received).toMatchObject([{ ok: true, tenantId: 'globex' }])
})

test.each<[string, () => string, number]>([
  ['a wrong token', () => auth('rh_free_acme_0123456789abcdef_x'), 4401],
  ['another tenant', () => auth(keys.acme!, 'globex'), 4403],
  ['no tenant id', () => auth(keys.acme!, 'no tenant'), 4400],
  ['something else', () => '{"action":"subscribe"}', 4401],
  ['no JSON', () => 'hello', 4401],
  ['a token that no header can hold', () => auth('sch\u00f6n'), 4401],
  ['a tenant that no header can hold', () => auth(keys.acme!, 'sch\u20acn'), 4400],
  ['too much', () => auth('x'.repeat(20_000)), 4401],
  ['a token with a line break', () => auth('x\r\nX-Tenant-ID: globex'), 4401],
])('with %s as the first message the socket is closed', async (_what, message, code) => {
  const { received, code: closed } = await talk('/browser', [message(), 'ignored'], 9)
  expect(received).toMatchObject([{ action: 'auth', ok: false, problem: { status: code - 4000 } }])
  expect(closed).toBe(code)
})

test('a socket that stays silent is closed', async () => {
  const { code } = await talk('/browser', [], 9)
  expect(code).toBe(4401)
})

test('a tenant that is not the one of the key is refused, also when the resolver looks at none', async () => {
  expect((await talk('/key', [auth(keys.acme!, 'acme')], 1)).received).toMatchObject([{ ok: true, tenantId: 'acme' }])
  expect((await talk('/key', [auth(keys.acme!)], 1)).received).toMatchObject([{ ok: true, tenantId: 'acme' }])
  const headers = { 'x-request-id': 'r_3' }
  const { received, code } = await talk('/key', [auth(keys.acme!, 'globex'), 'ignored'], 9, headers)
  expect(received).toMatchObject([{ ok: false, problem: { code: 'tenant_disagreement', requestId: 'r_3' } }])
  expect(code).toBe(4403)
  expect(told).toEqual([['tenant_disagreement', 'r_3']])
})

test('behind a proxy the address of the client is the one that the proxy tells', async () => {
  const { key } = await fixture.rowhouse.apiKeys.issue('acme', { name: 'net', allowedIps: ['192.0.2.0/24'] })
  const from = (ip: string) => talk('/key', [auth(key)], 1, { 'x-real-ip': ip })
  expect((await from('192.0.2.7')).received).toMatchObject([{ ok: true }])
  expect((await from('198.51.100.7')).received).toMatchObject([{ ok: false, problem: { status: 401 } }])
  expect((await from('')).received).toMatchObject([{ ok: false, problem: { status: 401 } }])
})
