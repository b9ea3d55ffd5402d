// P40: catalogs are public: names and sizes of relations, comments, sources of functions, bounds of partitions.
// Closed as far as names go: partitions are named by opaque ids and no object of rowhouse mentions a tenant.
// Documented: the bound of a promoted tenant's partition is its id, and sizes of relations can be read.
import { beforeAll, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { ACME, provision, useAppTables } from './support/app-tables.ts'
import { useClients } from './support/clients.ts'
import { expectClosed } from './support/expect-closed.ts'
import { rowsInTenant } from './support/in-tenant.ts'

const database = useDatabase()
useAppTables(database)
const clients = useClients(database, 'owner', 'app', 'operator')

const PROMOTED = 'umbrella-7f3a'

beforeAll(async () => {
  await provision(clients.operator, PROMOTED)
  await rowsInTenant(clients.app, PROMOTED, "insert into events (id, kind, payload) values (1, '', '{}')", {
    commit: true,
  })
  await rowsInTenant(clients.operator, null, `select rowhouse.promote_tenant('${PROMOTED}')`, {
    role: 'rowhouse_admin',
    commit: true,
  })
})

/** What other tenants read of the promoted one in any catalog, by name, comment, definition or source. */
async function mentions(): Promise<unknown[]> {
  return rowsInTenant(
    clients.app,
    ACME,
    `select * from (
      select 'relation' as kind, relname::text as text from pg_class
      union all select 'schema', nspname from pg_namespace
      union all select 'comment', description from pg_description
      union all select 'constraint', conname || pg_get_constraintdef(oid) from pg_constraint
      union all select 'column', attname from pg_attribute
      union all select 'default', pg_get_expr(adbin, adrelid) from pg_attrdef
      union all select 'policy', polname || coalesce(pg_get_expr(polqual, polrelid), '') from pg_policy
      union all select 'function', proname || prosrc from pg_proc
      union all select 'trigger', pg_get_triggerdef(oid) from pg_trigger
      union all select 'index', pg_get_indexdef(indexrelid) from pg_index
      union all select 'type', typname from pg_type
      union all select 'database', datname from pg_database
      union all select 'role', rolname from pg_roles
      union all select 'setting', array_to_string(setconfig, ' ') from pg_db_role_setting
      union all select 'statistics', s::text from pg_stats s
    ) c where text like '%${PROMOTED}%'`,
  )
}

test('no name, comment, definition or source mentions a tenant', async () => {
  await expectClosed({
    probe: mentions,
    removeProtection: () => clients.owner.query(`comment on table invoices is 'of ${PROMOTED}'`),
    restoreProtection: () => clients.owner.query('comment on table invoices is null'),
  })
})

test('documented: the bound of its own partition tells the id of a promoted tenant', async () => {
  const rows = await rowsInTenant(
    clients.app,
    ACME,
    `
    select distinct pg_get_expr(relpartbound, oid) as bound from pg_class where pg_get_expr(relpartbound, oid) like '%${PROMOTED}%'`,
  )
  expect(rows).toEqual([{ bound: `FOR VALUES IN ('${PROMOTED}')` }])
})

test('documented: sizes of relations can be read by everybody', async () => {
  const rows = await rowsInTenant(clients.app, ACME, "select pg_relation_size('public.invoices') > 0 as readable")
  expect(rows).toEqual([{ readable: true }])
})
