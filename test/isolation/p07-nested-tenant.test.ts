// P07: entering tenant B by a savepoint inside A's transaction leaves the outer code running as B after the release.
// Closed: another tenant inside withTenant is refused; the same tenant nests and stays.
import { sql } from 'kysely'
import { expect, test } from 'vitest'
import { TenantMismatchError } from '../../src/index.ts'
import { useDatabase } from '../setup/database.ts'
import { ACME, GLOBEX, useAppTables } from './support/app-tables.ts'
import { useOneConnection } from './support/clients.ts'
import { expectClosed } from './support/expect-closed.ts'
import { inTenant } from './support/in-tenant.ts'

const database = useDatabase()
useAppTables(database)
const one = useOneConnection(database)

/** Rows of another tenant that the outer code sees after the inner one. */
async function ours(): Promise<unknown[]> {
  return one.rowhouse.withTenant(ACME, async (db) => {
    await one.rowhouse
      .withTenant(GLOBEX, (inner) => inner.selectFrom('invoices').selectAll().execute())
      .catch((error) => {
        if (!(error instanceof TenantMismatchError)) throw error
      })
    return db.selectFrom('invoices').selectAll().where(sql`tenant_id`, '<>', ACME).execute()
  })
}

async function stock(): Promise<unknown[]> {
  const client = await one.pool.connect()
  try {
    return await inTenant(client, ACME, async () => {
      await client.query(`savepoint inner_tenant; set local app.tenant_id = '${GLOBEX}'`)
      await client.query('select from invoices')
      await client.query('release savepoint inner_tenant')
      return (await client.query('select * from invoices where tenant_id <> $1', [ACME])).rows
    })
  } finally {
    client.release()
  }
}

test('another tenant can not be entered inside a transaction', async () => {
  let probe = ours
  await expectClosed({
    probe: () => probe(),
    removeProtection: async () => {
      probe = stock
    },
    restoreProtection: async () => {
      probe = ours
    },
  })
})

test.each(['query', 'tenant', 'kysely'] as const)(
  '%s of another tenant is refused inside a transaction as well',
  async (by) => {
    const request = one.rowhouse.withTenant(ACME, async () => {
      if (by === 'query') return one.rowhouse.query(GLOBEX, (db) => db.selectFrom('invoices').selectAll())
      const db = by === 'tenant' ? one.rowhouse.tenant(GLOBEX).db : one.rowhouse.kysely(GLOBEX)
      return db.selectFrom('invoices').selectAll().execute()
    })
    await expect(request).rejects.toThrow(TenantMismatchError)
  },
)

test('the same tenant nests, and a rolled back inner transaction leaves the outer one in the tenant', async () => {
  const tenants = await one.rowhouse.withTenant(ACME, async (db) => {
    await one.rowhouse
      .withTenant(ACME, async (inner) => {
        await inner.selectFrom('invoices').selectAll().execute()
        throw new Error('inner')
      })
      .catch(() => {})
    return db.selectFrom('invoices').select('tenant_id').distinct().execute()
  })
  expect(tenants).toEqual([{ tenant_id: ACME }])
})
