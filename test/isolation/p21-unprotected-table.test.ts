// P21: a new table (create table as, a migration) has no row-level security, and default privileges open it to everybody.
// Closed: the application's role can create nothing, and gets no privilege on a table that nobody protected.
import { expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { ACME, GLOBEX, useAppTables } from './support/app-tables.ts'
import { useClients } from './support/clients.ts'
import { expectClosed, REFUSED, unlessRefused } from './support/expect-closed.ts'
import { exposures } from './support/exposures.ts'
import { inTenant, rowsInTenant, undone } from './support/in-tenant.ts'

const database = useDatabase()
useAppTables(database)
const clients = useClients(database, 'owner', 'app')

test('a table that nobody protected is out of reach', async () => {
  await clients.owner.query(`create table notes as select '${GLOBEX}'::text as tenant_id, 'note'::text as note`)
  await expectClosed({
    probe: () =>
      unlessRefused(REFUSED, () => rowsInTenant(clients.app, ACME, `select * from notes where tenant_id <> '${ACME}'`)),
    removeProtection: () => clients.owner.query('grant select on notes to rowhouse_app'),
    restoreProtection: () => clients.owner.query('revoke select on notes from rowhouse_app'),
  })
  // Not reached yet, it is noticed all the same: it has a tenant column.
  expect(await exposures(clients.owner)).toEqual([expect.stringMatching(/^unregistered_table: public.notes: /)])
  await clients.owner.query('drop table notes')
})

test('a table that is reachable without policies is noticed', async () => {
  await expectClosed({
    probe: () => exposures(clients.owner),
    removeProtection: () =>
      clients.owner.query(
        'alter default privileges grant select on tables to rowhouse_app; create table drafts (tenant_id text)',
      ),
    restoreProtection: () =>
      clients.owner.query('alter default privileges revoke select on tables from rowhouse_app; drop table drafts'),
  })
})

test('the application can create nothing that others would see', async () => {
  const attempts = [
    'create table public.mine (id int)',
    'create table public.copied as select * from invoices',
    'create table rowhouse.mine (id int)',
    'create view public.mine as select * from invoices',
    'create function public.mine() returns int language sql return 1',
    'create schema mine',
    'create policy mine on invoices using (true)',
    'alter table invoices disable row level security',
    'alter table invoices no force row level security',
    'drop policy rowhouse_isolation on invoices',
    'drop trigger rowhouse_guard on invoices',
    'create trigger mine after insert on invoices execute function rowhouse.guard_tenant_write()',
    'create index on invoices (note)',
    'create statistics mine on note, total from invoices',
    'alter table invoices owner to rowhouse_app',
    'grant select on invoices to public',
    "comment on table invoices is 'mine'",
    'create publication mine for table invoices',
    'create rule mine as on insert to invoices do also nothing',
    'reindex table invoices',
  ]
  const succeeded: string[] = []
  await inTenant(clients.app, ACME, async () => {
    for (const attempt of attempts) {
      await undone(clients.app, async () => {
        await clients.app.query(attempt)
        // A grant without the right to grant only warns.
        if (!attempt.startsWith('grant')) succeeded.push(attempt)
      }).catch((error) => expect(['42501', '42883'], `${attempt}: ${error.message}`).toContain(error.code))
    }
    const { rows } = await clients.app.query("select has_table_privilege('public', 'invoices', 'select') as granted")
    if (rows[0].granted) succeeded.push('grant')
  })
  expect(succeeded).toEqual([])
})
