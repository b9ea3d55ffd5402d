// While a tenant is erased or moved, triggers and foreign keys write its rows although its status says that nobody may.
// The write guard lets them, because the transaction holds the tenant's lock and says so in a setting. Anybody can make
// a setting, and a suspended tenant's lock is free: claiming to hold it must not be enough.
import { expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { provision, useAppTables } from './support/app-tables.ts'
import { useClients } from './support/clients.ts'
import { inTenant, rowsInTenant } from './support/in-tenant.ts'

const database = useDatabase()
useAppTables(database)
const clients = useClients(database, 'app', 'operator')

const INSERT = "insert into events (id, kind, payload) values (1, 'claimed', '{}') returning id"

/** What a tenant of this status writes when its transaction claims to hold the lock. */
async function writtenBy(tenantId: string, change: string | null): Promise<unknown> {
  await provision(clients.operator, tenantId)
  if (change !== null) {
    await rowsInTenant(clients.operator, null, `select rowhouse.${change}('${tenantId}')`, {
      role: 'rowhouse_admin',
      commit: true,
    })
  }
  return inTenant(clients.app, tenantId, async () => {
    await clients.app.query("set local rowhouse.holds_tenant_lock = 'on'")
    return clients.app.query(INSERT).then(
      ({ rows }) => rows,
      (error) => error.code,
    )
  })
}

test('an erased tenant can not write by claiming to hold its lock', async () => {
  expect(await writtenBy('works', null)).toEqual([{ id: 1 }])
  expect(await writtenBy('gone', 'erase_tenant')).toBe('RH004')
})

// The guard believes a lock that only functions of rowhouse can take.
test('a suspended tenant can not write by claiming to hold its lock', async () => {
  expect(await writtenBy('closed', 'suspend_tenant')).toBe('RH003')
})

test('a tenant whose erasure has begun can not write by claiming to hold its lock', async () => {
  expect(await writtenBy('leaving', 'begin_erasure')).toBe('RH004')
})
