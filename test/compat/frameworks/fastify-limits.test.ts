import fastify from 'fastify'
import type { Rowhouse } from 'rowhouse'
import { quotaHook, rateLimitHook, tenantOf, tenantPlugin } from 'rowhouse/fastify'
import { useRowhouse } from '../../audit/support.ts'
import { useDatabase } from '../../setup/database.ts'
import { countOpenTransactions, HandlerGate, LIMITS, meter, QUOTAS, readSession } from './limit-routes.ts'
import { describeLimits } from './limits.ts'
import { describeStop } from './stop.ts'
import { type App, resolve } from './support.ts'

const database = useDatabase()
const fixture = useRowhouse(database)

async function open(rowhouse: Rowhouse, gate: HandlerGate): Promise<App> {
  const app = fastify({ forceCloseConnections: true })
  await app.register(tenantPlugin(rowhouse, { resolve }))
  app.get('/limited', { onRequest: rateLimitHook(LIMITS.limited) }, async () => ({}))
  app.get('/costly', { onRequest: rateLimitHook(LIMITS.costly) }, async () => ({}))
  app.get('/by-route/:name', { onRequest: rateLimitHook(LIMITS.byRoute) }, async () => ({}))
  app.post('/metered', { onRequest: quotaHook(QUOTAS.metered) }, async (request, reply) => {
    reply.code(meter(request.url, tenantOf(request).reportUsage))
    return {}
  })
  app.post('/slow', { onRequest: quotaHook(QUOTAS.slow) }, async () => {
    await gate.pass()
    return {}
  })
  app.post('/paid', { onRequest: quotaHook(QUOTAS.paid) }, async () => ({}))
  app.post('/idle', { onRequest: [quotaHook(), rateLimitHook(LIMITS.byRoute)] }, () => countOpenTransactions(rowhouse))
  app.get<{ Params: { id: string } }>('/sessions/:id', (request) =>
    readSession(tenantOf(request).tenant, request.params.id),
  )
  const url = await app.listen({ port: 0, host: '127.0.0.1' })
  return { url, close: () => app.close() }
}

describeLimits(
  () => fixture.rowhouse,
  () => open(fixture.rowhouse, new HandlerGate()),
)
describeStop(database, open)
