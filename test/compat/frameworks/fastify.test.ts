import fastify from 'fastify'
import { tenantOf, tenantPlugin } from 'rowhouse/fastify'
import { useRowhouse } from '../../audit/support.ts'
import { useDatabase } from '../../setup/database.ts'
import { type App, describeAdapter, fail, resolve, whoAmI } from './support.ts'

const database = useDatabase()
const fixture = useRowhouse(database)

async function open(): Promise<App> {
  const app = fastify({ forceCloseConnections: true })
  await app.register(tenantPlugin(fixture.rowhouse, { resolve }))
  app.get('/who', (request) => whoAmI(tenantOf(request).tenant))
  app.post<{ Body: { text: string } }>('/echo', async (request) => ({
    tenant: tenantOf(request).tenantId,
    text: request.body.text,
  }))
  app.get<{ Params: { kind: string } }>('/fail/:kind', async (request) => fail(request.params.kind))
  const url = await app.listen({ port: 0, host: '127.0.0.1' })
  return { url, close: () => app.close() }
}

describeAdapter(() => fixture.rowhouse, open)
