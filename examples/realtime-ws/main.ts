/**
 * Two tenants, two server processes, two people of each tenant: `node examples/realtime-ws/main.ts`
 *
 * With `DATABASE_URL` on that database, whose owner it must be; otherwise on one inside this process.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { WebSocket } from 'ws'
import { startEmbeddedPostgres } from '../../src/embedded/index.ts' // in your project: 'rowhouse/embedded'
import { createRowhouse } from '../../src/index.ts' // in your project: 'rowhouse'

const embedded = process.env.DATABASE_URL === undefined ? await startEmbeddedPostgres() : undefined
const connectionString = process.env.DATABASE_URL ?? embedded!.connectionString
const rowhouse = createRowhouse({ connectionString })
await rowhouse.migrate()
const keys: Record<string, string> = {}
for (const tenantId of ['acme', 'globex']) {
  await rowhouse.tenants.provision(tenantId)
  keys[tenantId] = (await rowhouse.apiKeys.issue(tenantId, { name: 'chat' })).key
}
await rowhouse.close()

const servers = [await startServer(), await startServer()]
const people = [
  await enter('acme', servers[0]!.port),
  await enter('acme', servers[1]!.port),
  await enter('globex', servers[0]!.port),
  await enter('globex', servers[1]!.port),
]
people[0]!.socket.send('Hello from Acme')
people[3]!.socket.send('Hello from Globex')
while (people.some(({ heard }) => heard.length < 1)) await sleep(20)
await sleep(300) // What must not come would have come by now.
for (const { tenantId, port, heard } of people) {
  console.log(`${tenantId} on server ${servers.findIndex((server) => server.port === port) + 1} heard: ${heard}`)
}

for (const { socket } of people) socket.terminate()
for (const { child } of servers) {
  child.kill('SIGTERM')
  await once(child, 'exit')
}
await embedded?.close()

async function startServer(): Promise<{ child: ChildProcess; port: number }> {
  const env = { ...process.env, DATABASE_URL: connectionString, POLL_MS: embedded === undefined ? '30000' : '100' }
  const child = fork(join(import.meta.dirname, 'server.ts'), { env, stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
  const [{ port }] = (await once(child, 'message')) as [{ port: number }]
  return { child, port }
}

/** Somebody of a tenant, who hears what is said. */
async function enter(tenantId: string, port: number) {
  const socket = new WebSocket(`ws://127.0.0.1:${port}`)
  const heard: string[] = []
  await once(socket, 'open')
  const welcomed = new Promise<void>((resolve) => {
    socket.on('message', (data) => {
      const message = JSON.parse(data.toString())
      if (message.type === 'welcome') resolve()
      if (message.type === 'said') heard.push(message.text)
    })
  })
  socket.send(JSON.stringify({ action: 'auth', token: keys[tenantId] }))
  await welcomed
  return { tenantId, port, socket, heard }
}
