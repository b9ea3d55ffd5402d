// P10: a pooler in transaction mode gives the transactions of many tenants to one backend, and session state of one is
// there for the next. Closed: all that makes up a tenant's context is inside its transaction. (The note: no LISTEN, no
// held cursor, no session lock, no session setting of ours. PgBouncer itself is run by the compatibility suite.)
import { sql } from 'kysely'
import { expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { ACME, GLOBEX, TENANTS, useAppTables } from './support/app-tables.ts'
import { tracesOn, useOneConnection } from './support/clients.ts'

const database = useDatabase()
useAppTables(database)
const one = useOneConnection(database)

test('tenants that share a backend see their own rows, and leave nothing on it', async () => {
  const backends = new Set<number>()
  for (const tenantId of [ACME, GLOBEX, ACME, GLOBEX]) {
    const { rows } = await one.rowhouse.withTenant(tenantId, (db) =>
      sql<{ tenant_id: string; pid: number }>`select distinct tenant_id, pg_backend_pid() as pid from invoices`.execute(
        db,
      ),
    )
    expect(rows.map((row) => row.tenant_id)).toEqual([tenantId])
    backends.add(rows[0]!.pid)
    const client = await one.pool.connect()
    expect(await tracesOn(client)).toEqual([])
    client.release()
  }
  expect(backends.size).toBe(1)
})

test('transactions of two tenants at once wait for the one backend, and never mix', async () => {
  const requests = Array.from({ length: 20 }, async (_, index) => {
    const tenantId = TENANTS[index % 2]!
    const rows = await one.rowhouse.query(tenantId, (db) => db.selectFrom('invoices').select('tenant_id').distinct())
    return { tenantId, seen: rows.map((row: { tenant_id: string }) => row.tenant_id) }
  })
  for (const { tenantId, seen } of await Promise.all(requests)) expect(seen).toEqual([tenantId])
})
