// P16: with row_security = off a query raises 42501 exactly where a policy applies, and runs where none does: a proof
// that a table is protected, whatever its rows. The probe runs over every table that the application's role can read.
import { expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { ACME, APP_TABLES, protect, TEXT_COLUMN, useAppTables } from './support/app-tables.ts'
import { useClients } from './support/clients.ts'
import { expectClosed } from './support/expect-closed.ts'
import { inTenant, undone } from './support/in-tenant.ts'
import { reachableRelations } from './support/reachable-relations.ts'

const database = useDatabase()
useAppTables(database)
const clients = useClients(database, 'owner', 'app')

/** Tables of the application that can be read without policies, by each kind of statement. */
async function readable(): Promise<string[]> {
  const relations = (await reachableRelations(clients.owner)).filter(({ schema }) => schema === 'public')
  expect(relations.map(({ name }) => name)).toEqual([...APP_TABLES].map((name) => `public.${name}`).sort())
  return inTenant(clients.app, ACME, async () => {
    await clients.app.query('set local row_security = off')
    const found: string[] = []
    for (const table of APP_TABLES) {
      const column = TEXT_COLUMN[table]
      for (const statement of [
        `select from ${table}`,
        `delete from ${table}`,
        `update ${table} set ${column} = ${column}`,
      ]) {
        await undone(clients.app, async () => {
          await clients.app.query(statement)
          found.push(statement)
        }).catch((error) => expect(error).toMatchObject({ code: '42501' }))
      }
    }
    return found
  })
}

test.each(APP_TABLES)('row_security = off makes every statement on %s fail', async (table) => {
  await expectClosed({
    probe: readable,
    removeProtection: () => clients.owner.query(`alter table ${table} disable row level security`),
    restoreProtection: () => protect(clients.owner, table),
  })
})
