import type { Server } from 'node:http'
import { serve } from '@hono/node-server'
import { Hono } from 'hono'
import type { ContentfulStatusCode } from 'hono/utils/http-status'
import type { Rowhouse } from 'rowhouse'
import { problemHandler, quotaMiddleware, rateLimitMiddleware, tenantMiddleware, tenantOf } from 'rowhouse/hono'
import { useRowhouse } from '../../audit/support.ts'
import { useDatabase } from '../../setup/database.ts'
import { countOpenTransactions, HandlerGate, LIMITS, meter, QUOTAS, readSession } from './limit-routes.ts'
import { describeLimits } from './limits.ts'
import { describeStop } from './stop.ts'
import { type App, resolve, urlOf } from './support.ts'

const database = useDatabase()
const fixture = useRowhouse(database)

async function open(rowhouse: Rowhouse, gate: HandlerGate): Promise<App> {
  const app = new Hono()
  app.use(tenantMiddleware(rowhouse, { resolve }))
  app.get('/limited', rateLimitMiddleware(LIMITS.limited), (c) => c.json({}))
  app.get('/costly', rateLimitMiddleware(LIMITS.costly), (c) => c.json({}))
  app.get('/by-route/:name', rateLimitMiddleware(LIMITS.byRoute), (c) => c.json({}))
  app.post('/metered', quotaMiddleware(QUOTAS.metered), (c) =>
    c.json({}, meter(c.req.url, tenantOf(c).reportUsage) as ContentfulStatusCode),
  )
  app.post('/slow', quotaMiddleware(QUOTAS.slow), async (c) => {
    await gate.pass()
    return c.json({})
  })
  app.post('/paid', quotaMiddleware(QUOTAS.paid), (c) => c.json({}))
  app.post('/idle', quotaMiddleware(), rateLimitMiddleware(LIMITS.byRoute), async (c) =>
    c.json(await countOpenTransactions(rowhouse)),
  )
  app.get('/sessions/:id', async (c) => c.json(await readSession(tenantOf(c).tenant, c.req.param('id'))))
  app.onError(problemHandler())
  const server = await new Promise<Server>((listening) => {
    const opened = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }, () => listening(opened as Server))
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
