// P02: a tenant set for the session (set_config(..., false)) is still there when the pool hands the connection to the
// next request. Closed: the client sets it for one transaction, and removes what its callbacks set for the session.
import { sql } from 'kysely'
import { test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { ACME, useAppTables } from './support/app-tables.ts'
import { tracesOn, useOneConnection } from './support/clients.ts'
import { expectClosed } from './support/expect-closed.ts'
import { rowsInTenant } from './support/in-tenant.ts'

const database = useDatabase()
useAppTables(database)
const one = useOneConnection(database)

/** The next request forgets its tenant: what it finds on the connection, and the rows it sees. */
async function nextRequest(): Promise<unknown[]> {
  const client = await one.pool.connect()
  try {
    return [...(await tracesOn(client)), ...(await rowsInTenant(client, null, 'select * from invoices'))]
  } finally {
    await client.query('reset all')
    client.release()
  }
}

async function stockRequest(): Promise<void> {
  const client = await one.pool.connect()
  await client.query('begin')
  await client.query("select set_config('app.tenant_id', $1, false)", [ACME])
  await client.query('select from invoices')
  await client.query('commit')
  client.release()
}

test('the tenant of one request is not there for the next one', async () => {
  const ours = async (): Promise<void> => {
    await one.rowhouse.withTenant(ACME, (db) => db.selectFrom('invoices').selectAll().execute())
  }
  let request = ours
  await expectClosed({
    probe: async () => {
      await request()
      return nextRequest()
    },
    removeProtection: async () => {
      request = stockRequest
    },
    restoreProtection: async () => {
      request = ours
    },
  })
})

test('a setting that a callback makes for the session does not outlive it', async () => {
  const settings = { user: 'app.user_id', tenant: 'app.tenant_id' }
  const ours = (query: string) => one.rowhouse.withTenant(ACME, (db) => sql.raw(query).execute(db))
  const stock = (query: string) => one.pool.query(query)
  let run: (query: string) => Promise<unknown> = ours
  for (const setting of Object.values(settings)) {
    await expectClosed({
      probe: async () => {
        await run(`select set_config('${setting}', '${ACME}', false)`)
        return nextRequest()
      },
      removeProtection: async () => {
        run = stock
      },
      restoreProtection: async () => {
        run = ours
      },
    })
  }
})
