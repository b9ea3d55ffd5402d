/**
 * Starts the application on an embedded Postgres: `node examples/existing-express-app/main.ts before` or `after`.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Kysely, PostgresDialect } from 'kysely'
import pg from 'pg'
import { startEmbeddedPostgres } from '../../src/embedded/index.ts'
import { createRowhouse } from '../../src/index.ts'
import { createApp as createAppAfter } from './after/app.ts'
import { createApp as createAppBefore } from './before/app.ts'
import type { Database } from './database.ts'

const variant = process.argv[2]
if (variant !== 'before' && variant !== 'after') {
  console.error('Say which application to start: node examples/existing-express-app/main.ts before|after')
  process.exit(1)
}

const postgres = await startEmbeddedPostgres()
const pool = new pg.Pool({ connectionString: postgres.connectionString })
const runFile = async (file: string) => pool.query(await readFile(join(import.meta.dirname, file), 'utf8'))
await runFile('schema.sql')
await runFile('seed.sql')

const db = new Kysely<Database>({ dialect: new PostgresDialect({ pool }) })
const rowhouse = createRowhouse<Database>({ pool })
if (variant === 'after') {
  await rowhouse.migrate()
  await runFile('after/adopt.sql')
}

const app = variant === 'after' ? createAppAfter(db, rowhouse) : createAppBefore(db)
const server = app.listen(0, '127.0.0.1', () => {
  const { port } = server.address() as { port: number }
  console.log(
    `The application ${variant} adoption listens on port ${port}. Acme has the invoices 1 and 2, Globex has 3.`,
  )
  console.log('Globex reads an invoice of Acme:')
  console.log(`  curl --header 'authorization: Bearer token-of-globex' http://127.0.0.1:${port}/invoices/1`)
  console.log('Globex adds up its revenue:')
  console.log(`  curl --header 'authorization: Bearer token-of-globex' http://127.0.0.1:${port}/revenue`)
})
