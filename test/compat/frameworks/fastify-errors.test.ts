import fastify from 'fastify'
import { rateLimitHook, tenantPlugin } from 'rowhouse/fastify'
import { fromApiKey } from 'rowhouse/http'
import { useRowhouse } from '../../audit/support.ts'
import { useDatabase } from '../../setup/database.ts'
import { describeErrors } from './errors.ts'
import { fail } from './support.ts'

const fixture = useRowhouse(useDatabase())

describeErrors(
  () => fixture.rowhouse,
  async (rowhouse, onError) => {
    const app = fastify({ forceCloseConnections: true })
    await app.register(tenantPlugin(rowhouse, { resolve: fromApiKey(), onError }))
    app.get('/fine', async () => ({}))
    app.get('/limited', { onRequest: rateLimitHook({ name: 'nosuch' }) }, async () => ({}))
    app.get('/boom', async () => fail('other'))
    const url = await app.listen({ port: 0, host: '127.0.0.1' })
    return { url, close: () => app.close() }
  },
)
