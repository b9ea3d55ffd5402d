import type { Server } from 'node:http'
import express from 'express'
import { problemHandler, tenantMiddleware, tenantOf } from 'rowhouse/express'
import { useRowhouse } from '../../audit/support.ts'
import { useDatabase } from '../../setup/database.ts'
import { type App, describeAdapter, fail, resolve, urlOf, whoAmI } from './support.ts'

const database = useDatabase()
const fixture = useRowhouse(database)

async function open(): Promise<App> {
  const app = express()
  app.use(tenantMiddleware(fixture.rowhouse, { resolve, stripPath: true }))
  app.use(express.json())
  app.get('/who', async (request, response) => {
    response.json(await whoAmI(tenantOf(request).tenant))
  })
  app.post('/echo', (request, response) => {
    response.json({ tenant: tenantOf(request).tenantId, text: request.body.text })
  })
  app.get('/fail/:kind', async (request) => fail(request.params.kind))
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

describeAdapter(() => fixture.rowhouse, open, { stripsPath: true })
