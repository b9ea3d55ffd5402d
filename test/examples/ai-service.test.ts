// The service of examples/ai-service, over a socket: two customers with the same questions and their own answers.
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createApp } from '../../examples/ai-service/app.ts'
import { type CompletionRequest, type Model, quotingModel } from '../../examples/ai-service/model.ts'
import { setUp, signUp } from '../../examples/ai-service/setup.ts'
import { createRowhouse, type Rowhouse } from '../../src/index.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'

const database = useDatabase()

describe('a service for many customers', needs('pgvector'), () => {
  let rowhouse: Rowhouse
  let server: Server
  let url: string
  const keys: Record<string, string> = {}
  const seen: CompletionRequest[] = []
  let failure: Error | undefined
  const model: Model = {
    name: quotingModel.name,
    async complete(request) {
      seen.push(request)
      if (failure !== undefined) throw failure
      return quotingModel.complete(request)
    },
  }

  beforeAll(async () => {
    rowhouse = createRowhouse({ connectionString: database.url('owner') })
    await setUp(rowhouse)
    keys.acme = await signUp(rowhouse, 'acme', 'Acme Inc.', 'professional')
    keys.globex = await signUp(rowhouse, 'globex', 'Globex Corporation', 'free')
    server = createServer(createApp(rowhouse, model))
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    for (const [tenant, days] of [
      ['acme', 'thirty'],
      ['globex', 'twelve'],
    ] as const) {
      const passages = [`Everybody has ${days} days of leave a year.`, 'Leave is granted by the lead.']
      expect((await request(tenant, 'PUT', '/documents/leave', { title: 'Leave', passages })).status).toBe(204)
    }
  })

  afterAll(async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
    await rowhouse.close()
  })

  async function request(tenant: string, method: string, path: string, body?: unknown) {
    const response = await fetch(`${url}${path}`, {
      method,
      headers: { 'x-api-key': keys[tenant] ?? tenant, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    })
    const text = await response.text()
    return { status: response.status, body: text === '' ? undefined : JSON.parse(text) }
  }

  async function converse(tenant: string): Promise<string> {
    const { status, body } = await request(tenant, 'POST', '/conversations')
    expect(status).toBe(201)
    return body.id
  }

  const question = { question: 'How many days of leave do I have a year?' }

  test('each customer is answered from its own documents', async () => {
    for (const [tenant, days] of [
      ['acme', 'thirty'],
      ['globex', 'twelve'],
    ] as const) {
      const id = await converse(tenant)
      const { status, body } = await request(tenant, 'POST', `/conversations/${id}/questions`, question)
      expect({ status, text: body.text }).toEqual({ status: 200, text: `Everybody has ${days} days of leave a year.` })
      expect((await request(tenant, 'GET', `/conversations/${id}`)).body).toEqual([
        { role: 'user', text: question.question },
        { role: 'assistant', text: body.text },
      ])
    }
    // What the models saw, whole: nothing of the other customer.
    const [forAcme, forGlobex] = seen.slice(-2).map((each) => JSON.stringify({ ...each, signal: null }))
    expect(forAcme).toMatch(/thirty/)
    expect(forAcme).not.toMatch(/twelve|globex/i)
    expect(forGlobex).toMatch(/twelve/)
    expect(forGlobex).not.toMatch(/thirty|acme/i)
  })

  test('the model is given the conversation so far', async () => {
    const id = await converse('acme')
    await request('acme', 'POST', `/conversations/${id}/questions`, question)
    await request('acme', 'POST', `/conversations/${id}/questions`, { question: 'Who grants leave?' })
    expect(seen.at(-1)!.messages.map(({ role }) => role)).toEqual(['user', 'assistant', 'user'])
  })

  test("another customer's conversation is like one that does not exist", async () => {
    const id = await converse('acme')
    const unknown = '00000000-0000-4000-8000-000000000000'
    for (const [method, path] of [
      ['GET', ''],
      ['POST', '/questions'],
    ] as const) {
      const [foreign, none] = await Promise.all(
        [id, unknown].map((each) =>
          request('globex', method, `/conversations/${each}${path}`, method === 'POST' ? question : undefined),
        ),
      )
      expect(foreign!.status).toBe(404)
      const { requestId, ...rest } = foreign!.body
      expect(none).toEqual({ status: 404, body: { ...rest, requestId: expect.any(String) } })
      expect(requestId).not.toBe(none!.body.requestId)
    }
  })

  test('a call that fails costs nothing, and one that works is on the bill', async () => {
    const used = async () => (await request('acme', 'GET', '/usage')).body.quotas.find(isMoney).used
    const id = await converse('acme')
    const before = await used()
    failure = Object.assign(new Error('the key of the provider'), { status: 401 })
    const failed = await request('acme', 'POST', `/conversations/${id}/questions`, question)
    failure = undefined
    // The status of what the provider answered is not that of this service.
    expect(failed.status).toBe(500)
    expect(JSON.stringify(failed.body)).not.toContain('provider')
    expect(await used()).toBe(before)
    await request('acme', 'POST', `/conversations/${id}/questions`, question)
    const { body } = await request('acme', 'GET', '/usage')
    expect(body.quotas.find(isMoney).used).toBeGreaterThan(before)
    expect(body.lines[0].model).toBe('quoting')
  })

  test('a customer over its budget is refused before the model is asked, the other is not', async () => {
    const id = await converse('globex')
    await rowhouse.quotas.set('globex', 'money_per_month', { limit: 0.000001 })
    const asked = seen.length
    const refused = await request('globex', 'POST', `/conversations/${id}/questions`, question)
    expect(refused).toMatchObject({ status: 402, body: { code: 'budget_exceeded', quota: 'money_per_month' } })
    expect(seen.length).toBe(asked)
    const other = await converse('acme')
    expect((await request('acme', 'POST', `/conversations/${other}/questions`, question)).status).toBe(200)
    await rowhouse.quotas.set('globex', 'money_per_month', null)
  })

  test('bad requests are the fault of the caller, and say what is wrong', async () => {
    expect(await request('acme', 'PUT', '/documents/x', '{"title": ')).toMatchObject({
      status: 400,
      body: { title: 'Bad request', detail: expect.stringContaining('JSON') },
    })
    expect(await request('acme', 'PUT', '/documents/x', { title: 'x'.repeat(2_000_000) })).toMatchObject({
      status: 413,
    })
    expect(await request('acme', 'PUT', '/documents/x', { title: 7 })).toMatchObject({
      status: 400,
      body: { detail: expect.stringContaining('title') },
    })
    expect((await request('nobody', 'GET', '/usage')).status).toBe(401)
  })

  test('the trail has each answer with its model, tokens and passages', async () => {
    const entries = await rowhouse.tenant('acme').audit.query({ action: 'assistant.answer' })
    expect(entries.length).toBeGreaterThan(0)
    expect(entries[0]).toMatchObject({
      model: 'quoting',
      inputTokens: expect.any(Number),
      outputTokens: expect.any(Number),
    })
    expect(entries[0]!.documents!.length).toBeGreaterThan(0)
  })
})

function isMoney({ name }: { readonly name: string }): boolean {
  return name === 'money_per_month'
}
