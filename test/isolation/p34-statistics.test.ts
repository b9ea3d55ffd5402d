// P34: the planner's statistics hold values of all tenants' rows. Postgres shows them in pg_stats only where no policy
// applies to the reader. Closed: rowhouse makes no extended statistics, whose views had such holes.
import { expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { ACME, GLOBEX, protect, useAppTables } from './support/app-tables.ts'
import { useClients } from './support/clients.ts'
import { expectClosed } from './support/expect-closed.ts'
import { rowsInTenant } from './support/in-tenant.ts'

const database = useDatabase()
useAppTables(database)
const clients = useClients(database, 'owner', 'app')

/** Views of statistics that every role may read. */
const VIEWS = ['pg_stats', 'pg_stats_ext', 'pg_stats_ext_exprs']

async function foreignValues(): Promise<unknown[]> {
  const found: unknown[] = []
  for (const view of VIEWS) {
    const rows = await rowsInTenant(
      clients.app,
      ACME,
      `select s::text as text from ${view} s where schemaname = 'public'`,
    )
    found.push(...rows.filter(({ text }) => text.includes(GLOBEX)))
  }
  return found
}

test('statistics of a tenant table are hidden from the application', async () => {
  await clients.owner.query('analyze')
  await expectClosed({
    probe: foreignValues,
    removeProtection: () => clients.owner.query('alter table invoices disable row level security'),
    restoreProtection: () => protect(clients.owner, 'invoices'),
  })
})

test('extended statistics on a tenant table are hidden as well', async () => {
  await clients.owner.query('create statistics invoice_values (mcv) on note, tenant_id from invoices')
  await clients.owner.query('analyze invoices')
  await expectClosed({
    probe: foreignValues,
    removeProtection: () => clients.owner.query('alter table invoices disable row level security'),
    restoreProtection: () => protect(clients.owner, 'invoices'),
  })
})

test('the tables behind the views are closed', async () => {
  for (const table of ['pg_statistic', 'pg_statistic_ext_data']) {
    const read = rowsInTenant(clients.app, ACME, `select * from ${table}`)
    await expect(read).rejects.toMatchObject({ code: '42501' })
  }
  const { rows } = await clients.owner.query(
    "select from pg_statistic_ext where stxnamespace = 'rowhouse'::regnamespace",
  )
  expect(rows).toEqual([])
})
