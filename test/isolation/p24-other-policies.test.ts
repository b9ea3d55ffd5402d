// P24: permissive policies are joined by OR, so somebody's own "using (true)" opens every tenant's rows.
// Closed: the restrictive policy rowhouse_isolation holds whatever other policies allow; they are reported as well.
import { describe, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { ACME, APP_TABLES, protect, TEXT_COLUMN, useAppTables } from './support/app-tables.ts'
import { useClients } from './support/clients.ts'
import { expectClosed } from './support/expect-closed.ts'
import { rowsInTenant } from './support/in-tenant.ts'

const database = useDatabase()
useAppTables(database)
const clients = useClients(database, 'owner', 'app')

describe.each(APP_TABLES)('%s with a permissive policy for everything', (table) => {
  test('shows and changes rows of the tenant only', async () => {
    await clients.owner.query(`create policy careless on ${table} for all to public using (true) with check (true)`)
    const column = TEXT_COLUMN[table]
    const attacks = [
      `select tenant_id from ${table} where tenant_id <> '${ACME}'`,
      `update ${table} set ${column} = ${column} where tenant_id <> '${ACME}' returning tenant_id`,
      `delete from ${table} where tenant_id <> '${ACME}' returning tenant_id`,
    ]
    for (const attack of attacks) {
      await expectClosed({
        probe: () => rowsInTenant(clients.app, ACME, attack),
        removeProtection: () => clients.owner.query(`drop policy rowhouse_isolation on ${table}`),
        restoreProtection: () => protect(clients.owner, table),
      })
    }
    const { findings } = await protect(clients.owner, table)
    expect(findings).toContainEqual(expect.objectContaining({ kind: 'permissive_policy' }))
    await clients.owner.query(`drop policy careless on ${table}`)
  })
})

test('without a permissive policy nobody sees anything, so both are needed', async () => {
  await clients.owner.query('drop policy rowhouse_tenant on invoices')
  expect(await rowsInTenant(clients.app, ACME, 'select * from invoices')).toEqual([])
  await protect(clients.owner, 'invoices')
  expect(await rowsInTenant(clients.app, ACME, 'select * from invoices')).toHaveLength(9)
})
