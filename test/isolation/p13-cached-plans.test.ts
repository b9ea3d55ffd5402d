// P13: a tenant function marked IMMUTABLE is folded into a cached plan, and the next tenant gets the rows of the first.
// Closed: the policies read the setting by a STABLE expression, which every execution of a plan evaluates again.
import { expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { ACME, GLOBEX, protect, TENANTS, useAppTables } from './support/app-tables.ts'
import { useClients } from './support/clients.ts'
import { expectClosed } from './support/expect-closed.ts'
import { inTenant } from './support/in-tenant.ts'

const database = useDatabase()
useAppTables(database)
const clients = useClients(database, 'owner', 'app')

/** One session runs the same generic plan as acme, then as globex: rows of the wrong tenant. */
async function probe(): Promise<unknown[]> {
  await clients.app.query('discard plans')
  await clients.app.query('set plan_cache_mode = force_generic_plan')
  await clients.app.query('prepare all_invoices as select tenant_id from public.invoices')
  const wrong: unknown[] = []
  try {
    for (const tenantId of [...TENANTS, ACME]) {
      const { rows } = await inTenant(clients.app, tenantId, () => clients.app.query('execute all_invoices'))
      wrong.push(...rows.filter((row) => row.tenant_id !== tenantId))
    }
  } finally {
    await clients.app.query('deallocate all_invoices')
    await clients.app.query('reset plan_cache_mode')
  }
  return wrong
}

test('a generic plan made for one tenant reads the setting of the next one', async () => {
  await clients.owner.query(`
    create function public.immutable_tenant() returns text language sql immutable
    as $$ select current_setting('app.tenant_id', true) $$`)
  await expectClosed({
    probe,
    removeProtection: () =>
      clients.owner.query(`
        alter policy rowhouse_tenant on invoices using (tenant_id = immutable_tenant());
        alter policy rowhouse_isolation on invoices using (tenant_id = immutable_tenant())`),
    restoreProtection: () => protect(clients.owner, 'invoices'),
  })
})

test('nor does the default of the tenant column stay in a generic plan', async () => {
  const wrong = async (): Promise<unknown[]> => {
    await clients.app.query('discard plans')
    await clients.app.query('set plan_cache_mode = force_generic_plan')
    await clients.app.query(
      "prepare new_customer as insert into public.customers (email) values ('plan') returning tenant_id",
    )
    const found: unknown[] = []
    try {
      for (const tenantId of [...TENANTS, ACME]) {
        const written = await inTenant(clients.app, tenantId, () => clients.app.query('execute new_customer')).then(
          ({ rows }) => rows[0].tenant_id,
          (error) => error.code,
        )
        if (written !== tenantId) found.push(written)
      }
    } finally {
      await clients.app.query('deallocate new_customer; reset plan_cache_mode')
    }
    return found
  }
  await clients.owner.query(
    `create or replace function public.immutable_tenant() returns text language sql immutable
      as $$ select current_setting('app.tenant_id', true) $$`,
  )
  await expectClosed({
    probe: wrong,
    removeProtection: () =>
      clients.owner.query('alter table customers alter column tenant_id set default immutable_tenant()'),
    restoreProtection: () => protect(clients.owner, 'customers'),
  })
})

test('the sessions of two tenants see their own invoices', async () => {
  const count = (tenantId: string) => inTenant(clients.app, tenantId, () => clients.app.query('select from invoices'))
  expect((await count(ACME)).rowCount).toBe(9)
  expect((await count(GLOBEX)).rowCount).toBe(9)
})
