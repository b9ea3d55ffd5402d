// P27: COPY. COPY TO is filtered by the policies; COPY FROM is refused by Postgres on a table with row-level security,
// so bulk loads go by arrays. The probe looks at the bytes on the wire.

import { sql } from 'kysely'
import pg from 'pg'
import { expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { startProxy } from '../setup/proxy.ts'
import { ACME, APP_TABLES, canariesOf, GLOBEX, protect, useAppTables } from './support/app-tables.ts'
import { useClients, useOneConnection } from './support/clients.ts'
import { expectClosed } from './support/expect-closed.ts'
import { inTenant } from './support/in-tenant.ts'

const database = useDatabase()
useAppTables(database)
const clients = useClients(database, 'owner')
const one = useOneConnection(database)

/** What the server sends while acme runs the statement. */
async function received(statement: string): Promise<string> {
  await using proxy = await startProxy(database.url('app'), { record: true })
  const client = new pg.Client(proxy.url)
  await client.connect()
  try {
    await inTenant(client, ACME, () => client.query(statement))
    return proxy.received.toString('latin1')
  } finally {
    await client.end()
  }
}

test.each(APP_TABLES)('copy to gives the rows of the tenant only: %s', async (table) => {
  await expectClosed({
    probe: async () => {
      // Postgres copies a partitioned table by way of a query only.
      const bytes = await received(`copy (select * from ${table}) to stdout`)
      expect(bytes).toContain(canariesOf(ACME))
      return bytes.includes(canariesOf(GLOBEX)) ? [table] : []
    },
    removeProtection: () => clients.owner.query(`alter table ${table} disable row level security`),
    restoreProtection: () => protect(clients.owner, table),
  })
})

test('copy of a table by its name is filtered as well', async () => {
  const bytes = await received('copy invoices to stdout')
  expect(bytes).toContain(canariesOf(ACME))
  expect(bytes).not.toContain(canariesOf(GLOBEX))
})

// PGlite never answers a copy from the client, refused or not.
test.each(APP_TABLES)('copy from is refused by the server: %s', needs('parallelBackends'), async (table) => {
  const accepted = async () => {
    const client = await database.connect('app')
    try {
      await inTenant(client, ACME, () => client.query(`copy ${table} from stdin`))
      return ['accepted']
    } catch (error) {
      const { code } = error as { code: string }
      // node-postgres ends a copy that the server had begun to accept.
      return code === '57014' || code === '22P04' ? ['begun'] : code === '0A000' ? [] : [error]
    } finally {
      await client.end()
    }
  }
  await expectClosed({
    probe: accepted,
    removeProtection: () => clients.owner.query(`alter table ${table} disable row level security`),
    restoreProtection: () => protect(clients.owner, table),
  })
})

test('the client refuses copy from before it is sent, and says what to do instead', async () => {
  const request = one.rowhouse.withTenant(ACME, (db) => sql`copy invoices from stdin`.execute(db))
  await expect(request).rejects.toMatchObject({ code: 'invalid_argument', message: expect.stringContaining('unnest') })
})
