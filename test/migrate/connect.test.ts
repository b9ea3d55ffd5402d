import { createServer, type Server } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { connect } from '../../src/migrate/connect.ts'
import { createTestDatabase, failureOf, type TestDatabase, useServer } from './support.ts'

useServer()

let database: TestDatabase

beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())

function changed(change: (url: URL) => void): string {
  const url = new URL(database.url)
  change(url)
  return url.href
}

test('a good connection string connects (control)', async () => {
  const client = await connect(database.url)
  await client.end()
})

test.each([
  ['postgres://app:s3cret@ho st:port/app', /cannot be parsed/],
  ['postgres://app:s3cret@localhost:notaport/app', /cannot be parsed/],
  ['postgres://app:s3cret@localhost:99999/app', /cannot be parsed/],
  ['mysql://app:s3cret@localhost/app', /begins with mysql:, not with postgres:/],
  ['localhost', /is not a URL/],
  ['', /is not a URL/],
  ['postgres://app:s3#cret@localhost/app', /not percent-encoded/],
  ['postgres://app:s3/cret@localhost/app', /not percent-encoded/],
  ['postgres://app:3?cret@localhost/app', /not percent-encoded/],
  ['postgres://app:s3cret@localhost/app?sslrootcert=/does/not/exist.pem', /certificate file that does not exist/],
])('%s', async (connectionString, message) => {
  const error = await failureOf(connect(connectionString))
  expect(error.code).toBe('connection_failed')
  expect(error.message).toMatch(message)
  expect(error.hint).toContain('postgres://user:password@localhost:5432/database')
  expectNoSecret(error)
})

describe('a connection that fails', () => {
  const cases: [string, () => string, RegExp][] = [
    [
      'unknown host',
      () => changed((url) => (url.hostname = 'no-such-host.invalid')),
      /no-such-host\.invalid is unknown/,
    ],
    ['no server', () => changed((url) => (url.port = '1')), /Nothing accepts connections at .*:1\./],
    [
      'wrong password',
      () => changed((url) => (url.password = 'wr0ng-s3cret')),
      /refused the password of migrate_login_/,
    ],
    ['no password', () => changed((url) => (url.password = '')), /asks migrate_login_.* for a password/],
    ['unknown login', () => changed((url) => (url.username = 'nobody_here')), /nobody_here/],
    ['unknown database', () => changed((url) => (url.pathname = '/no_such_db')), /has no database no_such_db/],
    ['no TLS', () => `${database.url}?sslmode=verify-full`, /does not offer TLS/],
  ]
  test.each(cases)('%s: one sentence, a mend, no password', async (name, url, message) => {
    if (name.includes('password') && (await trustsEverybody())) return
    if (name === 'no TLS' && (await offersTls())) return
    const error = await failureOf(connect(url()))
    expect(error.code).toBe('connection_failed')
    expect(error.httpStatus).toBe(503)
    expect(error.message).toMatch(message)
    expect(error.message.endsWith('.')).toBe(true)
    expect(error.hint.length).toBeGreaterThan(10)
    expectNoSecret(error)
  })

  test('a server that says nothing is given up on', async () => {
    await withServer(createServer(), async (port) => {
      const error = await failureOf(connect(`postgres://a:s3cret@127.0.0.1:${port}/x`, 200))
      expect(error.message).toBe(`127.0.0.1:${port} did not answer in time.`)
    })
  })

  test('a server that is no Postgres is recognized', async () => {
    const server = createServer((socket) => socket.once('data', () => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')))
    await withServer(server, async (port) => {
      const error = await failureOf(connect(`postgres://a:s3cret@127.0.0.1:${port}/x`, 2000))
      expect(error.message).toBe(`127.0.0.1:${port} closed the connection at once.`)
    })
  })
})

function expectNoSecret(error: Error): void {
  const shown = JSON.stringify(error) + error.message + (error as { hint?: string }).hint
  for (const secret of ['s3cret', 's3#cret', 's3/cret', 's3?cret', 'cret@', 'secret@']) {
    expect(shown).not.toContain(secret)
  }
}

async function trustsEverybody(): Promise<boolean> {
  return connect(changed((url) => (url.password = 'anything'))).then(
    (client) => client.end().then(() => true),
    () => false,
  )
}

async function offersTls(): Promise<boolean> {
  const [row] = await database.admin("select current_setting('ssl') = 'on' as tls")
  return row.tls
}

async function withServer(server: Server, use: (port: number) => Promise<void>): Promise<void> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  try {
    await use((server.address() as { port: number }).port)
  } finally {
    server.close()
  }
}
