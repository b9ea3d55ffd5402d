// P23: a foreign table reads another server with somebody's credentials, without policies of this database.
// Closed: rowhouse makes none, and one that the application's role reaches is noticed.
import { test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { useAppTables } from './support/app-tables.ts'
import { useClients } from './support/clients.ts'
import { expectClosed } from './support/expect-closed.ts'
import { exposures } from './support/exposures.ts'

const database = useDatabase({ needs: ['superuser'] })
useAppTables(database)
const clients = useClients(database, 'superuser', 'owner')

test('a foreign table that the application reaches is noticed', async () => {
  await clients.superuser.query(`
    create foreign data wrapper without_handler;
    create server elsewhere foreign data wrapper without_handler;
    create foreign table remote_invoices (tenant_id text, note text) server elsewhere`)
  await expectClosed({
    probe: () => exposures(clients.owner),
    removeProtection: () => clients.superuser.query('grant select on remote_invoices to rowhouse_app'),
    restoreProtection: () => clients.superuser.query('revoke select on remote_invoices from rowhouse_app'),
  })
})
