import express from 'express'
import { z } from 'zod'
import { problemHandler, rateLimitMiddleware, tenantMiddleware, tenantOf } from '../../src/express/index.ts' // 'rowhouse/express'
import { fromApiKey } from '../../src/http/index.ts' // 'rowhouse/http'
import type { Rowhouse } from '../../src/index.ts' // 'rowhouse'
import { answer, toTurn } from './answer.ts'
import { embedWords, type Model } from './model.ts'

const newDocument = z.object({ title: z.string(), passages: z.array(z.string().min(1)).min(1) })
const newQuestion = z.object({ question: z.string().min(1).max(2000) })

/** The service. The API key says whose request it is; no route names a tenant, and none filters by one. */
export function createApp(rowhouse: Rowhouse, model: Model) {
  const app = express()
  app.use(tenantMiddleware(rowhouse, { resolve: fromApiKey() }))
  app.use(rateLimitMiddleware({ subject: 'key' }))
  app.use(express.json({ limit: '1mb' }))

  app.put('/documents/:id', async (request, response) => {
    const { title, passages } = parse(newDocument, request.body)
    const documents = tenantOf(request).tenant.documents('handbook', { embed: embedWords })
    await documents.parents.upsert({ id: request.params.id, title, parts: passages.map((content) => ({ content })) })
    response.status(204).end()
  })

  app.post('/conversations', async (request, response) => {
    const { id } = await tenantOf(request).tenant.sessions.create()
    response.status(201).json({ id })
  })

  app.post('/conversations/:id/questions', async (request, response) => {
    const { question } = parse(newQuestion, request.body)
    response.json(await answer(tenantOf(request).tenant, model, request.params.id, question))
  })

  app.get('/conversations/:id', async (request, response) => {
    const { messages } = await tenantOf(request).tenant.sessions.messages(request.params.id)
    response.json(messages.map(toTurn))
  })

  app.get('/usage', async (request, response) => {
    const { usage, budget } = tenantOf(request).tenant
    const [lines, quotas] = await Promise.all([usage.report({ by: ['model'] }), budget.checkQuotas()])
    response.json({ lines, quotas })
  })

  app.use(problemHandler())
  return app
}

/** What `problemHandler` answers with 400 and its message. */
function parse<T>(schema: z.ZodType<T>, body: unknown): T {
  const { success, data, error } = schema.safeParse(body)
  if (success) return data
  throw Object.assign(new Error(z.prettifyError(error)), { status: 400, expose: true })
}
