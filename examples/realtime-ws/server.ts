/**
 * A chat server; start as many processes as you like: `DATABASE_URL=... PORT=8080 node examples/realtime-ws/server.ts`
 *
 * What somebody says is heard by everybody of the same tenant, on whichever process. No process knows the others: the
 * database tells them.
 */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type WebSocket, WebSocketServer } from 'ws'
import { fromApiKey } from '../../src/http/index.ts' // in your project: 'rowhouse/http'
import { createRowhouse } from '../../src/index.ts' // in your project: 'rowhouse'
import { TenantConnections, tenantSockets } from '../../src/ws/index.ts' // in your project: 'rowhouse/ws'

const rowhouse = createRowhouse({
  connectionString: process.env.DATABASE_URL,
  // Only an embedded Postgres, which has one session for all, needs a look so often: NOTIFY tells a server at once.
  channels: { pollMs: Number(process.env.POLL_MS ?? 30_000) },
})
const sockets = tenantSockets(rowhouse, { resolve: fromApiKey() })
const connections = new TenantConnections<WebSocket>(rowhouse)
const webSockets = new WebSocketServer({ noServer: true, maxPayload: 65_536 })

const server = createServer((_request, response) => response.writeHead(426).end('WebSockets only.'))
server.on('upgrade', (request, connection, head) => {
  webSockets.handleUpgrade(request, connection, head, (socket) => {
    socket.on('error', () => socket.terminate())
    welcome(socket, request).catch((error) => {
      console.error(error)
      socket.close(1011)
    })
  })
})

async function welcome(socket: WebSocket, request: Parameters<typeof sockets.authenticate>[1]): Promise<void> {
  // A browser can't send headers, so the first message says who it is: { action: 'auth', token: 'rh_...' }.
  const caller = await sockets.authenticate(socket, request)
  if (caller === undefined) return
  const { tenantId } = caller
  const { id } = await connections.add(tenantId, socket)
  socket.send(JSON.stringify({ type: 'welcome', online: (await connections.members(tenantId)).length }))
  socket.on('message', (data) => {
    connections
      .sendToTenant(tenantId, { type: 'said', by: id, text: data.toString(), process: process.pid })
      .catch((error) => socket.send(JSON.stringify({ type: 'refused', code: error.code })))
  })
}

server.listen(Number(process.env.PORT ?? 0), '127.0.0.1', () => {
  const { port } = server.address() as AddressInfo
  process.send?.({ port })
  console.log(`ws://127.0.0.1:${port}`)
})

process.once('SIGTERM', async () => {
  server.close()
  await connections.close()
  await rowhouse.close()
  process.exit(0)
})
