/**
 * Starts the service: `node examples/ai-service/main.ts`
 *
 * With `DATABASE_URL` on that database, whose owner it must be; otherwise on one inside this process.
 */
import { startEmbeddedPostgres } from '../../src/embedded/index.ts' // in your project: 'rowhouse/embedded'
import { createRowhouse } from '../../src/index.ts' // in your project: 'rowhouse'
import { createApp } from './app.ts'
import { quotingModel } from './model.ts'
import { setUp, signUp } from './setup.ts'

const embedded = process.env.DATABASE_URL === undefined ? await startEmbeddedPostgres() : undefined
const rowhouse = createRowhouse({ connectionString: process.env.DATABASE_URL ?? embedded!.connectionString })
await setUp(rowhouse)
const acme = await signUp(rowhouse, 'acme', 'Acme Inc.', 'professional')
const globex = await signUp(rowhouse, 'globex', 'Globex Corporation', 'free')

const server = createApp(rowhouse, quotingModel).listen(Number(process.env.PORT ?? 0), '127.0.0.1', () => {
  const { port } = server.address() as { port: number }
  console.log(`The service listens on http://127.0.0.1:${port}`)
  console.log(`acme    ${acme}`)
  console.log(`globex  ${globex}`)
})

/** Requests end, what they have reserved is booked, and then the pool closes. */
async function stop(): Promise<void> {
  await new Promise((resolve) => server.close(resolve))
  await rowhouse.close()
  await embedded?.close()
}
process.once('SIGTERM', stop)
process.once('SIGINT', stop)
