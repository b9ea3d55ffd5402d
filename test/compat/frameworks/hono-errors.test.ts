import type { Server } from 'node:http'
import { serve } from '@hono/node-server'
import { Hono } from 'hono'
import { problemHandler, rateLimitMiddleware, tenantMiddleware } from 'rowhouse/hono'
import { fromApiKey } from 'rowhouse/http'
import { useRowhouse } from '../../audit/support.ts'
import { useDatabase } from '../../setup/database.ts'
import { describeErrors } from './errors.ts'
import { fail, urlOf } from './support.ts'

const fixture = useRowhouse(useDatabase())

describeErrors(
  () => fixture.rowhouse,
  async (rowhouse, onError) => {
    const app = new Hono()
    app.use(tenantMiddleware(rowhouse, { resolve: fromApiKey(), onError }))
    app.get('/fine', (c) => c.json({}))
    app.get('/limited', rateLimitMiddleware({ name: 'nosuch' }), (c) => c.json({}))
    app.get('/boom', () => fail('other'))
    app.onError(problemHandler({ onError }))
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
  },
)
