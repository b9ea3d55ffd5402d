// Sockets of tenants on two servers: what is sent to a tenant reaches its sockets on both, and nobody else's.
import { once } from 'node:events'
import { afterEach, expect, test } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import type { Rowhouse } from '../../src/index.ts'
import { TenantConnections, type TenantConnectionsOptions } from '../../src/ws/index.ts'
import { useDatabase } from '../setup/database.ts'
import { ACME, GLOBEX, useRealtime } from './support.ts'

const database = useDatabase({ needs: ['parallelBackends'] })
const fixture = useRealtime(database)
const cleanUps: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp()
})

/** A server that takes every socket for the tenant that its path names. */
async function startServer(options: TenantConnectionsOptions = {}, rowhouse: Rowhouse = fixture.open()) {
  const connections = new TenantConnections<WebSocket>(rowhouse, options)
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' })
  const failures: unknown[] = []
  server.on('connection', (socket, request) => {
    connections.add(request.url!.slice(1), socket, { agent: request.headers['user-agent'] }).then(
      () => socket.send('ready'),
      (error) => {
        failures.push(error)
        socket.close(1011)
      },
    )
  })
  await once(server, 'listening')
  cleanUps.push(async () => {
    await connections.close()
    for (const client of server.clients) client.terminate()
    await new Promise((resolve) => server.close(resolve))
  })
  const { port } = server.address() as { port: number }
  return { connections, failures, url: `ws://127.0.0.1:${port}` }
}

/** A client whose socket the server has taken. */
async function connect(url: string, tenantId: string, options: { autoPong?: boolean } = {}) {
  const socket = new WebSocket(`${url}/${tenantId}`, { headers: { 'user-agent': tenantId }, ...options })
  const received: string[] = []
  const closed = once(socket, 'close').then(([code]) => code as number)
  socket.on('message', (data) => received.push(data.toString()))
  cleanUps.push(() => socket.terminate())
  await expect.poll(() => received).toContain('ready')
  received.length = 0
  return { socket, received, closed }
}

test('what is sent to a tenant reaches its sockets on both servers, in one order, and no other', async () => {
  const servers = [await startServer(), await startServer()]
  const clients = await Promise.all(
    servers.flatMap(({ url }) => [ACME, GLOBEX, ACME].map(async (id) => ({ id, ...(await connect(url, id)) }))),
  )
  expect(servers[0]!.connections.getByTenant(ACME)).toHaveLength(2)
  expect(servers[0]!.connections.getByTenant('nobody')).toEqual([])
  expect((await servers[1]!.connections.members(ACME)).map(({ metadata }) => metadata)).toEqual(
    Array.from({ length: 4 }, () => ({ agent: ACME })),
  )
  await Promise.all(
    Array.from({ length: 30 }, (_, n) =>
      servers[n % 2]!.connections.sendToTenant(n % 3 === 0 ? GLOBEX : ACME, { of: n % 3 === 0 ? GLOBEX : ACME, n }),
    ),
  )
  for (const { id, received } of clients) {
    await expect.poll(() => received.length).toBe(id === GLOBEX ? 10 : 20)
    expect(received.every((text) => JSON.parse(text).of === id)).toBe(true)
    expect(received).toEqual(clients.find((other) => other.id === id)!.received)
  }
  await servers[0]!.connections.sendToTenant(ACME, 'plain text')
  await expect.poll(() => clients[0]!.received.at(-1)).toBe('plain text')
})

test('a socket that closes is gone from every list', async () => {
  const [one, other] = [await startServer(), await startServer()]
  const first = await connect(one.url, ACME)
  await connect(other.url, ACME)
  first.socket.close()
  await expect.poll(async () => (await other.connections.members(ACME)).length).toBe(1)
  expect(one.connections.getByTenant(ACME)).toEqual([])
})

test('a socket that does not answer pings is terminated; one that does stays, and is renewed', async () => {
  // Of the client and the server, which share a process here: one that is late by less loses nothing.
  const server = await startServer({ heartbeatMs: 1000 })
  const dead = await connect(server.url, ACME, { autoPong: false })
  const alive = await connect(server.url, ACME)
  let pings = 0
  alive.socket.on('ping', () => pings++)
  expect(await dead.closed).toBe(1006)
  // Longer than a member stays that is not renewed.
  await expect.poll(() => pings).toBeGreaterThan(4)
  expect(server.connections.getByTenant(ACME)).toHaveLength(1)
  expect(await server.connections.members(ACME)).toHaveLength(1)
  await server.connections.sendToTenant(ACME, 'still there')
  await expect.poll(() => alive.received).toEqual(['still there'])
})

test('the sockets of a process that died are gone after three heartbeats', async () => {
  const room = fixture.rowhouse.tenant(GLOBEX).channel('rowhouse:sockets')
  // What a process leaves that ends between two heartbeats.
  await room.join('of a dead process', { ttlMs: 3000 })
  const server = await startServer({ heartbeatMs: 1000 })
  await connect(server.url, GLOBEX)
  expect(await server.connections.members(GLOBEX)).toHaveLength(2)
  await expect.poll(async () => (await server.connections.members(GLOBEX)).length).toBe(1)
})

test('suspension closes the sockets of the tenant, and only those', async () => {
  await fixture.rowhouse.tenants.provision('leaving')
  const server = await startServer()
  const leaving = await connect(server.url, 'leaving')
  const staying = await connect(server.url, ACME)
  await fixture.rowhouse.tenants.suspend('leaving')
  expect(await leaving.closed).toBe(4403)
  expect(server.connections.getByTenant('leaving')).toEqual([])
  await expect(server.connections.sendToTenant('leaving', 'x')).rejects.toMatchObject({ code: 'tenant_suspended' })
  expect(staying.socket.readyState).toBe(WebSocket.OPEN)
  await fixture.rowhouse.tenants.resume('leaving')
  const back = await connect(server.url, 'leaving')
  await server.connections.sendToTenant('leaving', 'welcome back')
  await expect.poll(() => back.received).toEqual(['welcome back'])
})

test('a tenant that may not work gets no socket in; a client that is too slow is let go', async () => {
  const server = await startServer({ maxBufferedBytes: 0 })
  const socket = new WebSocket(`${server.url}/unknown`)
  const [code] = await once(socket, 'close')
  expect(code).toBe(1011)
  expect(server.failures).toMatchObject([{ code: 'tenant_not_found' }])
  const slow = await connect(server.url, ACME)
  const ofServer = server.connections.getByTenant(ACME)[0]!.socket
  slow.socket.pause()
  // More than the sockets of the system take.
  for (let n = 0; n < 200 && ofServer.bufferedAmount === 0; n++) ofServer.send('x'.repeat(1_000_000))
  await server.connections.sendToTenant(ACME, 'one more')
  await expect.poll(() => server.connections.getByTenant(ACME)).toEqual([])
})

test('what the tenant itself publishes there is no text for sockets unless it looks like it', async () => {
  const server = await startServer()
  const client = await connect(server.url, ACME)
  const room = fixture.rowhouse.tenant(ACME).channel('rowhouse:sockets')
  for (const payload of [null, 1, 'text', [], {}, { data: 1 }, { data: null }]) await room.publish(payload)
  await server.connections.sendToTenant(ACME, 'after')
  await expect.poll(() => client.received).toEqual(['after'])
})

test('bad options and values are refused; closed connections take no socket', async () => {
  for (const options of [{ heartbeatMs: 0 }, { heartbeatMs: 1.5 }, { maxBufferedBytes: -1 }, { ping: 1 }]) {
    expect(() => new TenantConnections(fixture.rowhouse, options as never)).toThrow(
      expect.objectContaining({ code: 'invalid_argument' }),
    )
  }
  const connections = new TenantConnections(fixture.rowhouse)
  for (const data of [undefined, () => {}]) {
    await expect(connections.sendToTenant(ACME, data)).rejects.toMatchObject({ code: 'invalid_channel' })
  }
  const server = await startServer()
  const client = await connect(server.url, ACME)
  await server.connections.close()
  expect(await client.closed).toBe(1001)
  expect(await server.connections.members(ACME)).toEqual([])
  await expect(server.connections.add(ACME, client.socket)).rejects.toMatchObject({ code: 'invalid_argument' })
})
