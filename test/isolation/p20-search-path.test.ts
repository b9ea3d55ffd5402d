// P20: a definer function whose search_path doesn't name pg_temp last can be fed the caller's temporary tables.
// Closed: every function of rowhouse pins "pg_catalog, pg_temp" (in that order) and names its objects with the schema.
import { beforeAll, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { ACME, GLOBEX, provision, useAppTables } from './support/app-tables.ts'
import { useClients } from './support/clients.ts'
import { expectClosed } from './support/expect-closed.ts'
import { inTenant, rowsInTenant } from './support/in-tenant.ts'

const database = useDatabase()
useAppTables(database)
const clients = useClients(database, 'owner', 'app', 'operator')

/** What an attacker leaves in the temporary schema: everything our functions name, and what their operators are made of. */
const SHADOWS = `
  create temporary table tenants (tenant_id text, status text, lock_key bigint, partition_schema name);
  insert into tenants values ('${GLOBEX}', 'active', 1, null), ('closed', 'active', 1, null);
  create temporary table protected_tables (relation regclass, tenant_column name, column_type regtype);
  create temporary table pg_class (oid oid, relname name);
  create temporary table pg_roles (rolname name, rolsuper boolean, rolbypassrls boolean);
  create function pg_temp.current_setting(text, boolean) returns text language sql as $$ select '${GLOBEX}'::text $$;
  create function pg_temp.nullif(text, text) returns text language sql as $$ select '${GLOBEX}'::text $$;
  create function pg_temp.check_tenant_status(text, text) returns void language sql as $$ select $$;
  create function pg_temp.always(text, text) returns boolean language sql as $$ select true $$;
  create operator pg_temp.= (leftarg = text, rightarg = text, function = pg_temp.always);
  set local search_path = pg_temp, pg_catalog, public;`

beforeAll(async () => {
  await provision(clients.operator, 'closed')
  await rowsInTenant(clients.operator, null, "select rowhouse.suspend_tenant('closed')", {
    role: 'rowhouse_admin',
    commit: true,
  })
})

test('shadows in the temporary schema change nothing', async () => {
  const found = async () => {
    const results: string[] = []
    const hijacked = await inTenant(clients.app, 'closed', async () => {
      await clients.app.query(SHADOWS)
      return clients.app.query('select rowhouse.enter_tenant()').then(
        () => ['enter_tenant let a suspended tenant in'],
        (error) => (error.code === 'RH003' ? [] : [error.message]),
      )
    })
    results.push(...hijacked)
    await inTenant(clients.app, ACME, async () => {
      await clients.app.query(SHADOWS)
      const { rows } = await clients.app.query('select tenant_id from public.invoices')
      results.push(...rows.filter((row) => row.tenant_id !== ACME).map((row) => `policy: ${row.tenant_id}`))
      const tenant = await clients.app.query('select rowhouse.current_tenant() as tenant')
      if (tenant.rows[0].tenant !== ACME) results.push('current_tenant')
    })
    return results
  }
  await expectClosed({
    probe: found,
    removeProtection: () =>
      asOwner(`create or replace function rowhouse.check_tenant_status(p_tenant text, p_status text) returns void
        language plpgsql immutable set search_path = pg_temp, pg_catalog as $$
        begin
          if (select t.status from tenants t where t.tenant_id operator(pg_catalog.=) p_tenant) operator(pg_catalog.=) 'active' then return; end if;
          raise exception using errcode = 'RH003', message = 'suspended';
        end $$`),
    restoreProtection: async () => {
      const { functionsFile } = await import('./support/sql-files.ts')
      await asOwner(await functionsFile('context.sql'))
    },
  })
})

async function asOwner(sql: string): Promise<void> {
  await clients.owner.query(`begin; set local role rowhouse_owner`)
  await clients.owner.query(sql)
  await clients.owner.query('commit')
}

// Postgres looks for no operator in the temporary schema, but in every other one.
test('operators and types of the application change nothing in the call that enters a tenant, which pins no path', async () => {
  const { owner, app } = clients
  await owner.query(`create schema shadows;
    create function shadows.always(text, text) returns boolean language sql as 'select true';
    create operator shadows.= (leftarg = text, rightarg = text, function = shadows.always);
    create domain shadows.text as pg_catalog.text default 'active';
    grant usage on schema shadows to rowhouse_app`)
  const { rows } = await owner.query(
    `select pg_get_functiondef('rowhouse.enter(boolean, boolean)'::regprocedure) as source`,
  )
  const { source } = rows[0]
  await expectClosed({
    probe: () =>
      inTenant(app, 'closed', async () => {
        await app.query('set local search_path = shadows, pg_catalog')
        return app.query('call rowhouse.enter(false, false)').then(
          () => ['a suspended tenant came in'],
          (error) => (error.code === 'RH003' ? [] : [error.message]),
        )
      }),
    removeProtection: () => asOwner(source.replaceAll('operator(pg_catalog.=)', '=')),
    restoreProtection: () => asOwner(source),
  })
})

test('functions in the temporary schema are never found by their bare name', async () => {
  const answer = await inTenant(clients.app, ACME, async () => {
    await clients.app.query(SHADOWS)
    const { rows } = await clients.app.query("select current_setting('app.tenant_id', true) as tenant")
    return rows
  })
  expect(answer).toEqual([{ tenant: ACME }])
})
