// P35: sessions of one role see the text of each other's statements in pg_stat_activity.
// Closed: the client sends values as parameters, which are not shown, and names no tenant in application_name.
import { sql } from 'kysely'
import { expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { canary, GLOBEX, useAppTables } from './support/app-tables.ts'
import { useClients, useOneConnection } from './support/clients.ts'
import { expectClosed } from './support/expect-closed.ts'

const database = useDatabase({ needs: ['parallelBackends', 'realRoles'] })
useAppTables(database)
const clients = useClients(database, 'app')
const one = useOneConnection(database)

const SECRET = canary(GLOBEX, 'secret of a query')

/**
 * What another session of the same login reads while globex is in the middle of a transaction, and after it. It keeps
 * the login's role: as rowhouse_app it would see nothing of sessions that began under another name.
 */
async function seen(): Promise<unknown[]> {
  const look = async () => {
    const { rows } = await clients.app.query(
      "select query from pg_stat_activity a where strpos(a::text, 'canary:' || $1) > 0 and pid <> pg_backend_pid()",
      [GLOBEX],
    )
    return rows
  }
  const during = await one.rowhouse.withTenant(GLOBEX, async (db) => {
    await ask(db)
    return look()
  })
  return [...during, ...(await look())]
}

type Ask = (db: Parameters<Parameters<typeof one.rowhouse.withTenant>[1]>[0]) => Promise<unknown>
const bound: Ask = (db) => db.selectFrom('invoices').selectAll().where('note', '=', SECRET).execute()
const literal: Ask = (db) => sql`select * from invoices where note = ${sql.lit(SECRET)}`.execute(db)
let ask = bound

test('values of one tenant are not seen in the activity of its session', async () => {
  await expectClosed({
    probe: seen,
    removeProtection: async () => {
      ask = literal
    },
    restoreProtection: async () => {
      ask = bound
      // The text of the last statement stays until the next one.
      await one.pool.query('select 1')
    },
  })
})

test('the name of the application tells no tenant', async () => {
  const { rows } = await one.rowhouse.withTenant(GLOBEX, (db) =>
    sql<{ name: string }>`select current_setting('application_name') as name`.execute(db),
  )
  expect(rows[0]!.name).not.toContain(GLOBEX)
})
