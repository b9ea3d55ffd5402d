// P43: a policy that reads other tables sees them as of another moment than the row, and can be raced.
// Closed: every policy of rowhouse compares the tenant column with the setting and reads no table.
import { expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { protect, useAppTables } from './support/app-tables.ts'
import { useClients } from './support/clients.ts'
import { expectClosed } from './support/expect-closed.ts'

const database = useDatabase()
useAppTables(database)
const clients = useClients(database, 'owner')

/** Policies of tenant tables and of rowhouse that depend on another relation, or call a function that is not built in. */
async function indirect(): Promise<unknown[]> {
  const { rows } = await clients.owner.query(`
    select p.polname, p.polrelid::regclass, d.refobjid
      from pg_policy p
      join pg_class c on c.oid = p.polrelid
      join pg_depend d on d.classid = 'pg_policy'::regclass and d.objid = p.oid and d.deptype = 'n'
      where (d.refclassid = 'pg_class'::regclass and d.refobjid <> p.polrelid)
        or (d.refclassid = 'pg_proc'::regclass)`)
  return rows
}

test('no policy reads another table or calls a function of a schema of ours', async () => {
  const { rows } = await clients.owner.query('select from pg_policy')
  expect(rows.length).toBeGreaterThan(6)
  await clients.owner.query('create table memberships (tenant_id text, who name)')
  await expectClosed({
    probe: indirect,
    removeProtection: () =>
      clients.owner.query(`alter policy rowhouse_tenant on invoices
        using (tenant_id in (select m.tenant_id from memberships m where m.who = current_user))`),
    restoreProtection: () => protect(clients.owner, 'invoices'),
  })
})
