import type { Rowhouse } from 'rowhouse'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { App } from './support.ts'

/** RateLimit fields: lists of strings with parameters of whole numbers, and of strings. */
const FIELD = /^"[\x20-\x7e]+?"(;[a-z]+=(\d+|"[\x20-\x7e]+?"))+(, "[\x20-\x7e]+?"(;[a-z]+=(\d+|"[\x20-\x7e]+?"))+)*$/

export function describeLimits(rowhouse: () => Rowhouse, open: () => Promise<App>): void {
  let app: App
  const keys: Record<string, string> = {}
  beforeAll(async () => {
    app = await open()
    const { apiKeys, quotas, rateLimits } = rowhouse()
    for (const [name, tenantId] of Object.entries({ acme: 'acme', second: 'acme', globex: 'globex' })) {
      keys[name] = (await apiKeys.issue(tenantId, { name })).key
    }
    await quotas.define('documents_per_month', { metric: 'documents', period: 'month' })
    await quotas.set('acme', 'documents_per_month', { limit: 10 })
    await quotas.set('acme', 'money_per_month', { limit: 10 })
    await rateLimits.setDefault('*', 'costly', [
      { limit: 5, windowMs: 60_000 },
      { limit: 8, windowMs: 3_600_000 },
    ])
  })
  afterAll(() => app?.close())
  const call = (path: string, key = 'acme', init: RequestInit = {}) =>
    fetch(`${app.url}${path}`, { ...init, headers: { 'x-api-key': keys[key]!, ...init.headers } })
  const used = async (tenantId = 'acme') => {
    const status = await rowhouse().tenant(tenantId).budget.checkQuotas()
    const { used: booked, reserved } = status.find(({ name }) => name === 'documents_per_month')!
    return { booked, reserved }
  }

  test('answers within a rate limit tell how it stands, and the one over it when to come back', async () => {
    for (const remaining of [1, 0]) {
      const response = await call('/limited')
      expect(response.status).toBe(200)
      expect(response.headers.get('ratelimit-policy')).toBe('"limited";q=2;w=600')
      expect(response.headers.get('ratelimit')).toMatch(new RegExp(`^"limited";r=${remaining};t=(600|599)$`))
    }
    const refused = await call('/limited')
    expect(refused.status).toBe(429)
    expect(refused.headers.get('content-type')).toContain('application/problem+json')
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(590)
    expect(refused.headers.get('ratelimit')).toMatch(/^"limited";r=0;t=(600|599)$/)
    expect(await refused.json()).toMatchObject({
      type: 'urn:rowhouse:problem:rate_limited',
      status: 429,
      code: 'rate_limited',
      quota: 'limited',
      'violated-policies': ['limited'],
    })
    // Another key, and another tenant, have allowances of their own.
    expect((await call('/limited', 'second')).status).toBe(200)
    expect((await call('/limited', 'globex')).status).toBe(200)
  })

  test('a cost of the request, two windows, and a subject of its own', async () => {
    const costly = (cost: number, project: string) =>
      call(`/costly?cost=${cost}`, 'acme', { headers: { 'x-project': project } })
    const first = await costly(4, 'one')
    expect(first.status).toBe(200)
    expect(first.headers.get('ratelimit-policy')).toBe('"costly-60000ms";q=5;w=60, "costly-3600000ms";q=8;w=3600')
    expect(first.headers.get('ratelimit')).toMatch(/^"costly-60000ms";r=1;t=\d+, "costly-3600000ms";r=4;t=\d+$/)
    const second = await costly(2, 'one')
    expect(second.status).toBe(429)
    expect(second.headers.get('ratelimit')).toMatch(FIELD)
    expect((await costly(2, 'other')).status).toBe(200)
    // More than could ever be admitted is the caller's mistake, not a matter of time.
    expect((await costly(9, 'one')).status).toBe(400)
  })

  test('by route: its pattern where the framework knows it', async () => {
    const statuses: number[] = []
    for (const name of ['a', 'a', 'a']) statuses.push((await call(`/by-route/${name}`)).status)
    expect(statuses).toEqual([200, 200, 429])
  })

  test('a quota is reserved before the handler, booked after it, and named when it refuses', async () => {
    const before = await used()
    const first = await call('/metered', 'acme', { method: 'POST' })
    expect(first.status).toBe(200)
    expect(first.headers.get('ratelimit-policy')).toMatch(FIELD)
    expect(first.headers.get('ratelimit')).toMatch(/"documents_per_month";r=6;t=\d+/)
    await expect.poll(() => used()).toEqual({ booked: before.booked + 4, reserved: 0 })

    // What was reported is booked instead; a handler that failed used nothing.
    await call('/metered?used=1', 'acme', { method: 'POST' })
    await expect.poll(() => used()).toEqual({ booked: 5, reserved: 0 })
    for (const status of ['500', 'throw']) {
      const failed = await call(`/metered?status=${status}`, 'acme', { method: 'POST' })
      expect(failed.status).toBe(500)
      expect(await failed.text()).not.toContain('password')
      await expect.poll(() => used()).toEqual({ booked: 5, reserved: 0 })
    }
    await call('/metered', 'acme', { method: 'POST' })
    await expect.poll(() => used()).toEqual({ booked: 9, reserved: 0 })

    const refused = await call('/metered', 'acme', { method: 'POST' })
    expect(refused.status).toBe(429)
    expect(refused.headers.get('content-type')).toContain('application/problem+json')
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
    expect(refused.headers.get('ratelimit-policy')).toBe('"documents_per_month";q=10;qu="documents"')
    expect(refused.headers.get('ratelimit')).toMatch(/^"documents_per_month";r=1;t=\d+$/)
    expect(await refused.json()).toMatchObject({ code: 'quota_exceeded', quota: 'documents_per_month' })
    expect(await used()).toEqual({ booked: 9, reserved: 0 })
  })

  test('requests at once never get more than the quota has', async () => {
    await rowhouse().quotas.set('globex', 'documents_per_month', { limit: 10 })
    const statuses = await Promise.all(
      Array.from({ length: 12 }, async () => (await call('/metered', 'globex', { method: 'POST' })).status),
    )
    expect(statuses.filter((status) => status === 200).length).toBeLessThanOrEqual(2)
    expect(statuses.filter((status) => status === 200).length).toBeGreaterThan(0)
    expect(new Set(statuses)).toEqual(new Set([200, 429]))
  })

  test('a budget of money is 402, with its name', async () => {
    expect((await call('/paid', 'acme', { method: 'POST' })).status).toBe(200)
    const refused = await call('/paid', 'acme', { method: 'POST' })
    expect(refused.status).toBe(402)
    expect(await refused.json()).toMatchObject({ code: 'budget_exceeded', quota: 'money_per_month' })
  })

  test('a resource of another tenant is a 404, as one that never was', async () => {
    const own = await rowhouse().tenant('acme').sessions.create()
    const foreign = await rowhouse().tenant('globex').sessions.create()
    expect((await call(`/sessions/${own.id}`)).status).toBe(200)
    const answers: unknown[] = []
    for (const id of [foreign.id, '0198c0de-0000-7000-8000-000000000000']) {
      const response = await call(`/sessions/${id}`)
      expect(response.status).toBe(404)
      const { requestId: _, ...problem } = (await response.json()) as Record<string, unknown>
      answers.push(JSON.parse(JSON.stringify(problem).replaceAll(id, '<id>')))
    }
    expect(answers[0]).toEqual(answers[1])
  })

  test('no transaction is open while a handler runs', async () => {
    expect(await (await call('/idle', 'acme', { method: 'POST' })).json()).toEqual({ open: 0 })
    // What the last requests used is booked behind their answers.
    const { budget } = rowhouse().tenant('acme')
    await expect.poll(async () => (await budget.checkQuotas()).some(({ reserved }) => reserved > 0)).toBe(false)
  })
}
