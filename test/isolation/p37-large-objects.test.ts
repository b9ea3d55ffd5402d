// P37: large objects have an owner role and no tenant: what one tenant stores, another reads, because both are the same
// role. Documented, not closed (the functions belong to PostgreSQL): don't use them. rowhouse stores nothing in them.
import { expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { ACME, GLOBEX, useAppTables } from './support/app-tables.ts'
import { useClients } from './support/clients.ts'
import { rowsInTenant } from './support/in-tenant.ts'

const database = useDatabase()
useAppTables(database)
const clients = useClients(database, 'owner', 'app')

test('documented: a large object of one tenant is read by another', async () => {
  const [object] = await rowsInTenant(clients.app, GLOBEX, "select lo_from_bytea(0, 'secret') as oid", { commit: true })
  const [read] = await rowsInTenant(clients.app, ACME, `select convert_from(lo_get(${object.oid}), 'UTF8') as content`)
  expect(read).toEqual({ content: 'secret' })
  await rowsInTenant(clients.app, GLOBEX, `select lo_unlink(${object.oid})`, { commit: true })
})

test('rowhouse has no large object and no function that makes one', async () => {
  const { rows } = await clients.owner.query(`
    select oid::text from pg_largeobject_metadata
    union all select p.oid::regprocedure::text from pg_proc p
      where p.pronamespace = 'rowhouse'::regnamespace and p.prosrc ~ '\\ylo_'`)
  expect(rows).toEqual([])
})
