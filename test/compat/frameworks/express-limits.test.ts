import type { Server } from 'node:http'
import express from 'express'
import type { Rowhouse } from 'rowhouse'
import { problemHandler, quotaMiddleware, rateLimitMiddleware, tenantMiddleware, tenantOf } from 'rowhouse/express'
import { expect, test } from 'vitest'
import { useRowhouse } from '../../audit/support.ts'
import { useDatabase } from '../../setup/database.ts'
import { countOpenTransactions, HandlerGate, LIMITS, meter, QUOTAS, readSession } from './limit-routes.ts'
import { describeLimits } from './limits.ts'
import { describeStop } from './stop.ts'
import { type App, resolve, urlOf } from './support.ts'

const database = useDatabase()
const fixture = useRowhouse(database)

async function open(rowhouse: Rowhouse, gate: HandlerGate): Promise<App> {
  const app = express()
  app.use(tenantMiddleware(rowhouse, { resolve }))
  app.get('/limited', rateLimitMiddleware(LIMITS.limited), (_request, response) => void response.json({}))
  app.get('/costly', rateLimitMiddleware(LIMITS.costly), (_request, response) => void response.json({}))
  app.get('/by-route/:name', rateLimitMiddleware(LIMITS.byRoute), (_request, response) => void response.json({}))
  app.post('/metered', quotaMiddleware(QUOTAS.metered), async (request, response) => {
    response.status(meter(request.url, tenantOf(request).reportUsage)).json({})
  })
  app.post('/slow', quotaMiddleware(QUOTAS.slow), async (_request, response) => {
    await gate.pass()
    response.json({})
  })
  app.post('/paid', quotaMiddleware(QUOTAS.paid), (_request, response) => void response.json({}))
  app.post('/idle', quotaMiddleware(), rateLimitMiddleware(LIMITS.byRoute), async (_request, response) => {
    response.json(await countOpenTransactions(rowhouse))
  })
  app.get('/sessions/:id', async (request, response) => {
    response.json(await readSession(tenantOf(request).tenant, request.params.id))
  })
  app.use(problemHandler())
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

describeLimits(
  () => fixture.rowhouse,
  () => open(fixture.rowhouse, new HandlerGate()),
)
describeStop(database, open)

test('a client that goes away before its request is admitted uses nothing, and its handler does not run', async () => {
  const { rowhouse } = fixture
  await rowhouse.tenants.provision('leaving')
  await rowhouse.quotas.define('documents_of_all_time', { metric: 'documents', period: 'total' })
  await rowhouse.quotas.set('leaving', 'documents_of_all_time', { limit: 10 })
  const { key } = await rowhouse.apiKeys.issue('leaving', { name: 'leaving' })
  const seen: string[] = []
  const app = express()
  app.use(tenantMiddleware(rowhouse, { resolve }))
  app.use((request, response, next) => {
    if (request.url === '/left') response.once('close', next)
    else next()
    if (request.url === '/left') request.socket.destroy()
  })
  app.use(quotaMiddleware(QUOTAS.slow), (request, response) => {
    seen.push(request.url)
    response.json({})
  })
  const server = await new Promise<Server>((listening) => {
    const opened = app.listen(0, '127.0.0.1', () => listening(opened))
  })
  const call = (path: string) => fetch(`${urlOf(server)}${path}`, { headers: { 'x-api-key': key } })
  const documents = async () => {
    const quotas = await rowhouse.tenant('leaving').budget.checkQuotas()
    return quotas.find(({ name }) => name === 'documents_of_all_time')
  }
  await expect(call('/left')).rejects.toThrow()
  // The control: who stays is booked.
  expect((await call('/stayed')).status).toBe(200)
  await expect.poll(documents).toMatchObject({ used: 3, reserved: 0 })
  expect(seen).toEqual(['/stayed'])
  server.closeAllConnections()
  server.close()
})
