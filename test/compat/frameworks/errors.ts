import { createRowhouse, type Rowhouse } from 'rowhouse'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { App } from './support.ts'

/** What a server's log gets to know. */
export interface Told {
  readonly error: any
  readonly requestId: string | undefined
}

/** Told by each application: errors of its middleware and limits, and errors of its handlers. */
export type Tell = (error: unknown, request: unknown, requestId: string | undefined) => void

/** Routes that every application has: `GET /fine`, `GET /limited` by a limit that does not exist, `GET /boom`. */
export function describeErrors(
  rowhouse: () => Rowhouse,
  open: (rowhouse: Rowhouse, onError: Tell) => Promise<App>,
): void {
  let app: App
  let key: string
  let told: Told[] = []
  beforeAll(async () => {
    app = await open(rowhouse(), (error, request, requestId) => {
      expect(request).toBeTypeOf('object')
      told.push({ error, requestId })
      // A log that fails leaves no caller without an answer.
      throw new Error('the log is full')
    })
    key = (await rowhouse().apiKeys.issue('acme', { name: 'errors', scopes: ['invoices:read'] })).key
  })
  afterAll(() => app?.close())

  async function ask(path: string, headers: Record<string, string> = {}, url = app.url, init: RequestInit = {}) {
    told = []
    const response = await fetch(`${url}${path}`, { ...init, headers: { 'x-request-id': 'r_1', ...headers } })
    return { status: response.status, text: await response.text() }
  }

  test('an operator is told why a key was refused, under the id that stands in the answer', async () => {
    const wrong = `${key.slice(0, -1)}${key.endsWith('0') ? '1' : '0'}`
    const { status, text } = await ask('/fine', { 'x-api-key': wrong })
    expect([status, JSON.parse(text)]).toMatchObject([401, { code: 'invalid_api_key', requestId: 'r_1' }])
    expect(text).not.toContain('wrong_secret')
    expect(told).toMatchObject([{ error: { reason: 'wrong_secret' }, requestId: 'r_1' }])
    const made = JSON.parse((await ask('/fine', { 'x-request-id': 'not plain!' })).text).requestId
    expect(made).toMatch(/^[0-9a-f-]{36}$/)
    expect(told).toMatchObject([{ error: { code: 'unauthenticated' }, requestId: made }])
  })

  test('of a limit that does not exist, and of a handler that fails', async () => {
    const limited = await ask('/limited', { 'x-api-key': key })
    expect(limited.status).toBeGreaterThanOrEqual(400)
    expect(JSON.parse(limited.text)).toMatchObject({ requestId: 'r_1' })
    expect(told).toHaveLength(1)
    expect(told[0]).toMatchObject({ error: { message: expect.stringContaining('nosuch') }, requestId: 'r_1' })
    const boom = await ask('/boom', { 'x-api-key': key })
    expect([boom.status, JSON.parse(boom.text)]).toMatchObject([500, { type: 'about:blank', requestId: 'r_1' }])
    expect(told).toMatchObject([{ error: { message: 'password of the database' }, requestId: 'r_1' }])
    expect(boom.text).not.toContain('password')
  })

  test('of a database that can not be reached', async () => {
    const dead = createRowhouse({ connectionString: 'postgres://x:y@127.0.0.1:1/z' })
    const deadApp = await open(dead, (error, _request, requestId) => told.push({ error, requestId }))
    const { status, text } = await ask('/fine', { 'x-api-key': key }, deadApp.url)
    expect([status, JSON.parse(text)]).toMatchObject([503, { code: 'connection_failed', requestId: 'r_1' }])
    expect(told).toMatchObject([{ error: { code: 'connection_failed' }, requestId: 'r_1' }])
    await deadApp.close()
    await dead.close().catch(() => {})
  })

  test('odd requests are refused, never mistaken for others, and answered with HEAD as with GET', async () => {
    for (const [headers, status] of [
      [{ 'x-api-key': `${key}, ${key}` }, 401],
      [{ 'x-api-key': 'x'.repeat(5000) }, 401],
      [{ 'x-api-key': 'r\u00fch' }, 401],
      [{ authorization: `Bearer ${key}, Bearer ${key}` }, 401],
      [{ 'x-api-key': '', authorization: `Bearer ${key}` }, 401],
      [{ 'x-api-key': key, 'x-request-id': 'x'.repeat(5000) }, 200],
    ] as [Record<string, string>, number][]) {
      expect((await ask('/fine', headers)).status, JSON.stringify(headers).slice(0, 60)).toBe(status)
    }
    expect((await ask(`/fine?api_key=${key}&X-API-Key=${key}`)).status).toBe(401)
    expect(await ask('/fine', {}, app.url, { method: 'HEAD' })).toEqual({ status: 401, text: '' })
    expect((await ask('/fine', {}, app.url, { method: 'OPTIONS' })).status).toBe(401)
  })

  test('the control: a right request is answered, and nobody is told', async () => {
    expect((await ask('/fine', { 'x-api-key': key })).status).toBe(200)
    expect(told).toEqual([])
  })
}
