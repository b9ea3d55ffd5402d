// P22: row-level security doesn't exist for materialized views: one holds the rows of whoever refreshed it.
// Closed: rowhouse makes none; protect_table reports them; the application's role reaches none (coverage.test.ts).
import { expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { ACME, protect, useAppTables } from './support/app-tables.ts'
import { useClients } from './support/clients.ts'
import { expectClosed, REFUSED, unlessRefused } from './support/expect-closed.ts'
import { exposures } from './support/exposures.ts'
import { rowsInTenant } from './support/in-tenant.ts'

const database = useDatabase({ needs: ['superuser'] })
useAppTables(database)
const clients = useClients(database, 'owner', 'superuser', 'app')

test('a materialized view is out of reach, reported, and noticed when it is not', async () => {
  await clients.superuser.query('create materialized view all_invoices as select * from invoices')
  const { findings } = await protect(clients.owner, 'invoices')
  expect(findings).toContainEqual(expect.objectContaining({ kind: 'materialized_view', level: 'error' }))
  const grant = () => clients.superuser.query('grant select on all_invoices to rowhouse_app')
  const revoke = () => clients.superuser.query('revoke select on all_invoices from rowhouse_app')
  await expectClosed({
    probe: () =>
      unlessRefused(REFUSED, () =>
        rowsInTenant(clients.app, ACME, `select * from all_invoices where tenant_id <> '${ACME}'`),
      ),
    removeProtection: grant,
    restoreProtection: revoke,
  })
  await expectClosed({ probe: () => exposures(clients.owner), removeProtection: grant, restoreProtection: revoke })
})
