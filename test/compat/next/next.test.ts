// rowhouse/next in an application of Next.js that is built and started as in production, over a real socket.
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test, vi } from 'vitest'
import { useRowhouse } from '../../audit/support.ts'
import { useDatabase } from '../../setup/database.ts'
import { describeLimits } from '../frameworks/limits.ts'
import type { App } from '../frameworks/support.ts'

const ROOT = join(import.meta.dirname, '../../..')
const NEXT = join(import.meta.dirname, 'node_modules/next/dist/bin/next')
const environment = () =>
  ({
    ...process.env,
    NODE_ENV: 'production',
    NEXT_TELEMETRY_DISABLED: '1',
    DATABASE_URL: `${database.url('app')}?application_name=next`,
  }) as const

const database = useDatabase()
const fixture = useRowhouse(database)
let url: string

/** The package as it is published: Next.js leaves it to Node to load. */
async function build(): Promise<void> {
  const installed = join(import.meta.dirname, 'node_modules/rowhouse')
  await rm(installed, { recursive: true, force: true })
  for (const part of ['package.json', 'dist', 'sql']) {
    await cp(join(ROOT, part), join(installed, part), { recursive: true })
  }
  await promisify(execFile)(process.execPath, [NEXT, 'build'], { cwd: import.meta.dirname, env: environment() })
}

async function open(): Promise<App> {
  await build()
  const server = spawn(process.execPath, [NEXT, 'start', '--port', '0', '--hostname', '127.0.0.1'], {
    cwd: import.meta.dirname,
    env: environment(),
    stdio: ['ignore', 'pipe', 'inherit'],
    // A group of its own: the server is a child of the command.
    detached: true,
  })
  url = await addressOf(server)
  return {
    url,
    close: async () => {
      const exited = once(server, 'exit')
      // Asked kindly, it waits for connections that are kept alive.
      process.kill(-server.pid!, 'SIGKILL')
      await exited
      const observer = await database.connect('owner')
      const others =
        "select from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and application_name = 'next'"
      await vi.waitFor(async () => expect((await observer.query(others)).rowCount).toBe(0))
    },
  }
}

/** What it prints when it listens. */
function addressOf(server: ChildProcess): Promise<string> {
  return new Promise((found, reject) => {
    let text = ''
    server.stdout!.on('data', (data) => {
      text += data
      const address = /http:\/\/127\.0\.0\.1:\d+/.exec(text)
      if (address !== null) found(address[0])
    })
    server.once('exit', () => reject(new Error(`Next.js did not start: ${text}`)))
  })
}

describeLimits(() => fixture.rowhouse, open)

test('an answer whose headers can not be changed has the fields as well', async () => {
  const { key } = await fixture.rowhouse.apiKeys.issue('globex', { name: 'redirect' })
  const response = await fetch(`${url}/redirect`, { headers: { 'x-api-key': key }, redirect: 'manual' })
  expect(response.status).toBe(302)
  expect(response.headers.get('location')).toBe('https://example.com/')
  expect(response.headers.get('ratelimit-policy')).toBe('"redirect";q=2;w=600')
})

test('without a key, or with a wrong one, the answer is a problem', async () => {
  for (const headers of [{}, { 'x-api-key': 'wrong' }]) {
    const response = await fetch(`${url}/limited`, { headers })
    expect(response.status).toBe(401)
    expect(response.headers.get('content-type')).toContain('application/problem+json')
  }
})
