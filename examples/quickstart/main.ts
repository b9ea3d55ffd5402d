/**
 * The program of the README with a database of its own: `node examples/quickstart/main.ts`
 */
import type { Generated } from 'kysely'
import pg from 'pg'
import { startEmbeddedPostgres } from '../../src/embedded/index.ts' // in your project: 'rowhouse/embedded'
import { createRowhouse } from '../../src/index.ts' // in your project: 'rowhouse'

interface AppTables {
  invoices: { id: Generated<string>; tenant_id: Generated<string>; number: string; amount: number }
}

// Your Postgres, with a table that is there already. Here: one inside this process.
const postgres = await startEmbeddedPostgres()
const client = new pg.Client({ connectionString: postgres.connectionString })
await client.connect()
await client.query('create table invoices (id uuid default gen_random_uuid(), number text, amount integer)')
await client.end()

const rowhouse = createRowhouse<AppTables>({ connectionString: postgres.connectionString })
await rowhouse.migrate() // roles, policies, functions: schema "rowhouse"
await rowhouse.protectTable('public.invoices') // your own table, now tenant-owned
await rowhouse.tenants.provision('acme')
await rowhouse.tenants.provision('globex')

// One transaction. The tenant is filled in.
await rowhouse.withTenant('acme', async (db) => {
  await db.insertInto('invoices').values({ number: 'A-1', amount: 120 }).execute()
})

const seen = await rowhouse.query('globex', (db) => db.selectFrom('invoices').selectAll())
console.log(seen) // []: no filter was written, none was forgotten

const receipt = await rowhouse.tenants.erase('acme') // every table, checked for residue
console.log(receipt.tables['public.invoices']) // 1

await rowhouse.close()
await postgres.close()
