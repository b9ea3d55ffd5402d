// P18: a view reads with the rights of its owner, so an exempt owner's view shows every tenant's rows.
// Closed: rowhouse makes no views of its own; protect_table reports views that are not security_invoker.
import { beforeAll, describe, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { ACME, protect, useAppTables } from './support/app-tables.ts'
import { useClients } from './support/clients.ts'
import { expectClosed } from './support/expect-closed.ts'
import { exposures } from './support/exposures.ts'
import { rowsInTenant } from './support/in-tenant.ts'

const database = useDatabase({ needs: ['superuser'] })
useAppTables(database)
const clients = useClients(database, 'owner', 'superuser', 'app')

const foreignRows = (view: string) =>
  rowsInTenant(clients.app, ACME, `select * from ${view} where tenant_id <> '${ACME}'`)

describe('a view of an exempt owner', () => {
  beforeAll(async () => {
    await clients.superuser.query(`
      create view invoice_notes with (security_invoker = true) as select tenant_id, note from invoices;
      grant select on invoice_notes to rowhouse_app`)
  })

  test('shows the rows of the tenant when it is security_invoker', async () => {
    await expectClosed({
      probe: () => foreignRows('invoice_notes'),
      removeProtection: () => clients.superuser.query('alter view invoice_notes set (security_invoker = false)'),
      restoreProtection: () => clients.superuser.query('alter view invoice_notes set (security_invoker = true)'),
    })
  })

  test('is reported when it is not', async () => {
    const finding = async () => {
      const { findings } = await protect(clients.owner, 'invoices')
      return findings.filter(({ kind }) => kind === 'view_of_owner').map(({ object }) => object)
    }
    await expectClosed({
      probe: finding,
      removeProtection: () => clients.superuser.query('alter view invoice_notes reset (security_invoker)'),
      restoreProtection: () => clients.superuser.query('alter view invoice_notes set (security_invoker = true)'),
    })
  })
})

test('a view of the tenant on a view of an exempt owner is no way around, and is reported', async () => {
  await clients.superuser.query(`
    create view inner_invoices with (security_invoker = true) as select * from invoices;
    create view outer_invoices with (security_invoker = true) as select * from inner_invoices;
    grant select on inner_invoices, outer_invoices to rowhouse_app`)
  await expectClosed({
    probe: () => foreignRows('outer_invoices'),
    removeProtection: () => clients.superuser.query('alter view inner_invoices set (security_invoker = false)'),
    restoreProtection: () => clients.superuser.query('alter view inner_invoices set (security_invoker = true)'),
  })
  await expectClosed({
    probe: () => exposures(clients.owner, 'view_of_owner'),
    removeProtection: () => clients.superuser.query('alter view outer_invoices reset (security_invoker)'),
    restoreProtection: () => clients.superuser.query('alter view outer_invoices set (security_invoker = true)'),
  })
  await clients.superuser.query('drop view outer_invoices, inner_invoices')
})

test("a view of the table's own owner shows the rows of the tenant: the owner is subject to the policies", async () => {
  await clients.owner.query(
    'create view owners_view as select * from invoices; grant select on owners_view to rowhouse_app',
  )
  const owner = await clients.owner.query('select rolsuper as exempt from pg_roles where rolname = current_user')
  if (!owner.rows[0].exempt) expect(await foreignRows('owners_view')).toEqual([])
  await clients.owner.query('drop view owners_view')
})

test('the schema of rowhouse has no view', async () => {
  const { rows } = await clients.owner.query(
    "select oid::regclass from pg_class where relnamespace = 'rowhouse'::regnamespace and relkind in ('v', 'm')",
  )
  expect(rows).toEqual([])
})
