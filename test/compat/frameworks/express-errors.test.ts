import type { Server } from 'node:http'
import express from 'express'
import { problemHandler, quotaMiddleware, rateLimitMiddleware, tenantMiddleware, tenantOf } from 'rowhouse/express'
import { fromApiKey, fromPath, requireAgreement } from 'rowhouse/http'
import { expect, test } from 'vitest'
import { useRowhouse } from '../../audit/support.ts'
import { useDatabase } from '../../setup/database.ts'
import { describeErrors } from './errors.ts'
import { type App, fail, urlOf } from './support.ts'

const fixture = useRowhouse(useDatabase())

async function listen(app: express.Express): Promise<App> {
  const server = await new Promise<Server>((listening) => {
    const opened = app.listen(0, '127.0.0.1', () => listening(opened))
  })
  return {
    url: urlOf(server),
    close: async () => {
      server.closeAllConnections()
      server.close()
    },
  }
}

describeErrors(
  () => fixture.rowhouse,
  (rowhouse, onError) => {
    const app = express()
    app.use(tenantMiddleware(rowhouse, { resolve: fromApiKey(), onError }))
    app.get('/fine', (_request, response) => void response.json({}))
    app.get('/limited', rateLimitMiddleware({ name: 'nosuch' }), (_request, response) => void response.json({}))
    app.get('/boom', () => fail('other'))
    app.use(problemHandler({ onError }))
    return listen(app)
  },
)

test('a limit without a tenant goes to the handler of errors', async () => {
  const codes: unknown[] = []
  const app = express()
  app.get('/', quotaMiddleware(), (_request, response) => void response.json({}))
  app.use(problemHandler({ onError: (error) => void codes.push((error as { code?: unknown }).code) }))
  const { url, close } = await listen(app)
  expect((await fetch(url)).status).toBe(500)
  expect(codes).toEqual(['no_tenant_context'])
  await close()
})

test('what named the tenant is stripped from the path, wherever the middleware is mounted', async () => {
  const show: express.RequestHandler = (request, response) => {
    response.json({ base: request.baseUrl, url: request.url, path: tenantOf(request).path, query: request.query })
  }
  const byPath = (prefix: string) =>
    tenantMiddleware(fixture.rowhouse, {
      resolve: requireAgreement(fromApiKey(), fromPath({ prefix })),
      stripPath: true,
    })
  const app = express()
  const api = express.Router()
  api.get('/invoices/:id', show)
  app.use('/api', byPath('/api/t'), api)
  app.use('/in/t', byPath('/in/t'), api)
  app.use('/by/:tenant', byPath('/by'), api)
  app.use('/deep/:tenant/v1', byPath('/deep'), api)
  const { url, close } = await listen(app)
  const { key } = await fixture.rowhouse.apiKeys.issue('acme', { name: 'mounted' })
  for (const [path, base] of [
    ['/api/t/acme/invoices/7?x=1', '/api'],
    ['/in/t/acme/invoices/7?x=1', '/in/t'],
    ['/by/acme/invoices/7?x=1', '/by/acme'],
    ['/deep/acme/v1/invoices/7?x=1', '/deep/acme/v1'],
  ]) {
    const response = await fetch(`${url}${path}`, { headers: { 'x-api-key': key } })
    expect(response.status, path).toBe(200)
    expect(await response.json(), path).toMatchObject({ base, url: '/invoices/7?x=1', query: { x: '1' } })
  }
  expect((await fetch(`${url}/api/t/globex/invoices/7`, { headers: { 'x-api-key': key } })).status).toBe(404)
  await close()
})
