// The chat of examples/realtime-ws: two tenants on two server processes never hear each other.
import { type ChildProcess, execFile, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { ACME, GLOBEX, useRowhouse } from '../audit/support.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'

const folder = join(import.meta.dirname, '../../examples/realtime-ws')
const database = useDatabase()
const fixture = useRowhouse(database)

test('main.ts runs by itself and prints what its README says', { timeout: 180_000 }, async () => {
  const { DATABASE_URL: _, ...env } = process.env
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [join(folder, 'main.ts')], { env })
  expect(stdout.trim().split('\n')).toEqual([
    'acme on server 1 heard: Hello from Acme',
    'acme on server 2 heard: Hello from Acme',
    'globex on server 1 heard: Hello from Globex',
    'globex on server 2 heard: Hello from Globex',
  ])
  expect(stderr).toBe('')
})

describe('on a server with NOTIFY', needs('parallelBackends'), () => {
  const servers: { child: ChildProcess; port: number }[] = []
  const keys: Record<string, string> = {}

  beforeAll(async () => {
    for (const tenantId of [ACME, GLOBEX]) {
      keys[tenantId] = (await fixture.rowhouse.apiKeys.issue(tenantId, { name: 'chat' })).key
    }
    for (let n = 0; n < 2; n++) servers.push(await start())
  })
  afterAll(async () => {
    for (const { child } of servers) await stop(child, 'SIGTERM')
  })

  async function start() {
    const env = { ...process.env, DATABASE_URL: database.url('app') }
    const child = fork(join(folder, 'server.ts'), { env, stdio: ['ignore', 'ignore', 'inherit', 'ipc'], execArgv: [] })
    const [{ port }] = (await once(child, 'message')) as [{ port: number }]
    return { child, port }
  }

  async function stop(child: ChildProcess, signal: NodeJS.Signals) {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill(signal)
    await once(child, 'exit')
  }

  /** A client of a tenant; `all` is every byte it got. */
  async function enter(tenantId: string, { port }: { port: number }) {
    const socket = new WebSocket(`ws://127.0.0.1:${port}`)
    const all: string[] = []
    socket.on('message', (data) => all.push(data.toString()))
    await once(socket, 'open')
    socket.send(JSON.stringify({ action: 'auth', token: keys[tenantId] }))
    await expect.poll(() => all.some((text) => text.includes('"welcome"'))).toBe(true)
    const texts = () =>
      all.flatMap((text) => (text.includes('"said"') ? [JSON.parse(text) as { text: string; process: number }] : []))
    return { tenantId, socket, all, texts }
  }

  test('everybody hears their own tenant, on both processes in one order, and nobody the other', async () => {
    const people = await Promise.all(
      servers.flatMap((server) => [ACME, GLOBEX, ACME, GLOBEX].map((tenantId) => enter(tenantId, server))),
    )
    for (let n = 0; n < 10; n++) for (const { socket, tenantId } of people) socket.send(`canary:${tenantId}:${n}`)
    for (const { texts } of people) await expect.poll(() => texts().length).toBe(40)
    await sleep(100)
    for (const { tenantId, all, texts } of people) {
      const other = tenantId === ACME ? GLOBEX : ACME
      expect(all.filter((text) => text.includes(`canary:${other}`))).toEqual([])
      expect(texts()).toEqual(people.find((one) => one.tenantId === tenantId)!.texts())
      // Said on both processes.
      expect(new Set(texts().map((said) => said.process)).size).toBe(2)
    }
    for (const { socket } of people) socket.terminate()
  })

  test('a wrong key gets in nowhere', async () => {
    const socket = new WebSocket(`ws://127.0.0.1:${servers[0]!.port}`)
    await once(socket, 'open')
    socket.send(JSON.stringify({ action: 'auth', token: `${keys[ACME]}x` }))
    expect((await once(socket, 'close'))[0]).toBe(4401)
  })

  test('a process that is killed takes its people along, and nobody else', async () => {
    const victim = await start()
    const [gone, stays] = [await enter(ACME, victim), await enter(ACME, servers[0]!)]
    await stop(victim.child, 'SIGKILL')
    await expect.poll(() => gone.socket.readyState).toBe(WebSocket.CLOSED)
    stays.socket.send('still here')
    await expect.poll(() => stays.texts().map(({ text }) => text)).toEqual(['still here'])
    stays.socket.terminate()
  })
})
