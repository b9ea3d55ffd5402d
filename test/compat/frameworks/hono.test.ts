import type { Server } from 'node:http'
import { serve } from '@hono/node-server'
import { getConnInfo } from '@hono/node-server/conninfo'
import { Hono } from 'hono'
import { problemHandler, tenantMiddleware, tenantOf } from 'rowhouse/hono'
import { useRowhouse } from '../../audit/support.ts'
import { useDatabase } from '../../setup/database.ts'
import { type App, describeAdapter, fail, resolve, urlOf, whoAmI } from './support.ts'

const database = useDatabase()
const fixture = useRowhouse(database)

async function open(): Promise<App> {
  const app = new Hono()
  app.use(
    tenantMiddleware(fixture.rowhouse, {
      resolve,
      origin: (c: Parameters<typeof getConnInfo>[0]) => ({ ip: getConnInfo(c).remote.address }),
    }),
  )
  app.get('/who', async (c) => c.json(await whoAmI(tenantOf(c).tenant)))
  app.post('/echo', async (c) => c.json({ tenant: tenantOf(c).tenantId, text: (await c.req.json()).text }))
  app.get('/fail/:kind', (c) => fail(c.req.param('kind')))
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

describeAdapter(() => fixture.rowhouse, open)
