// findIsolationGaps: each kind of gap is found when it is made, and gone when it is mended.
import { randomBytes } from 'node:crypto'
import { beforeAll, describe, expect, test } from 'vitest'
import { findIsolationGaps } from '../../src/testing/index.ts'
import { protect, useAppTables } from '../isolation/support/app-tables.ts'
import { useClients } from '../isolation/support/clients.ts'
import { expectClosed } from '../isolation/support/expect-closed.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'

const database = useDatabase()
useAppTables(database)
const clients = useClients(database, 'owner')

beforeAll(() =>
  clients.owner.query(`
    create table countries (code text primary key, name text);
    grant select on countries to rowhouse_app;
    create table by_day (tenant_id uuid not null, day date, primary key (tenant_id, day)) partition by range (day);
    create table by_day_2026 partition of by_day for values from ('2026-01-01') to ('2027-01-01');
    select rowhouse.protect_table('by_day')`),
)

const options = { sharedTables: ['countries'] }
const gaps = () => findIsolationGaps(clients.owner, options)
const protectAgain = 'select rowhouse.protect_table'

/** The kind and the object, how it is made, and how it is undone. */
const GAPS: readonly [kind: string, object: string, make: string, mend: string][] = [
  [
    'unprotected_table',
    'public.drafts',
    'create table drafts (id int); grant insert on drafts to rowhouse_app',
    'drop table drafts',
  ],
  ['unregistered_table', 'public.drafts', 'create table drafts (tenant_id text)', 'drop table drafts'],
  [
    'unregistered_table',
    'public.drafts',
    'create table drafts (tenant_id text)',
    "select rowhouse.exempt_table('drafts', 'nobody reads it'); drop table drafts",
  ],
  [
    'shared_table_writable',
    'public.countries',
    'grant update (name) on countries to rowhouse_app',
    'revoke update (name) on countries from rowhouse_app',
  ],
  [
    'row_security_off',
    'public.invoices',
    'alter table invoices disable row level security',
    `${protectAgain}('invoices')`,
  ],
  [
    'row_security_not_forced',
    'public.by_day_2026',
    'alter table by_day_2026 no force row level security',
    `${protectAgain}('by_day')`,
  ],
  [
    'policy_differs',
    'public.by_day_2026',
    'drop policy rowhouse_isolation on by_day_2026',
    `${protectAgain}('by_day')`,
  ],
  [
    'policy_differs',
    'public.invoices',
    'alter policy rowhouse_tenant on invoices using (true)',
    `${protectAgain}('invoices')`,
  ],
  [
    'permissive_policy',
    'careless on public.invoices',
    'create policy careless on invoices using (true)',
    'drop policy careless on invoices',
  ],
  [
    'privilege_on_partition',
    'public.by_day_2026',
    'grant select (day) on by_day_2026 to rowhouse_app',
    'revoke select (day) on by_day_2026 from rowhouse_app',
  ],
  [
    'privilege_around_policies',
    'REFERENCES on public.invoices',
    'grant references (id) on invoices to public',
    'revoke references (id) on invoices from public',
  ],
  [
    'privilege_around_policies',
    'TRUNCATE on public.invoices',
    'grant truncate on invoices to rowhouse_app',
    'revoke truncate on invoices from rowhouse_app',
  ],
  [
    'tenant_updatable',
    'public.invoices',
    'grant update (tenant_id) on invoices to rowhouse_app',
    'revoke update (tenant_id) on invoices from rowhouse_app',
  ],
  [
    'tenant_without_default',
    'public.invoices',
    "alter table invoices alter column tenant_id set default 'acme'",
    `${protectAgain}('invoices')`,
  ],
  [
    'write_guard_missing',
    'public.invoices',
    'alter table invoices disable trigger rowhouse_guard',
    'alter table invoices enable trigger rowhouse_guard',
  ],
  [
    'write_guard_missing',
    'public.events',
    'drop trigger rowhouse_guard on events',
    `${protectAgain}('events', p_partition => true)`,
  ],
  ['key_without_tenant', 'note on public.invoices', 'create unique index note on invoices (note)', 'drop index note'],
  [
    'foreign_key_without_tenant',
    'thread on public.comments',
    `create unique index everywhere on customers (id);
      create table comments (tenant_id text not null, id int, customer uuid, primary key (tenant_id, id),
        constraint thread foreign key (customer) references customers (id));
      select rowhouse.protect_table('comments'); drop index if exists none`,
    'drop table comments; drop index everywhere',
  ],
  [
    'view_of_owner',
    'public.all_invoices',
    'create view all_invoices as select * from invoices',
    'alter view all_invoices set (security_invoker = true); drop view all_invoices',
  ],
  [
    'materialized_view',
    'public.all_invoices',
    'create materialized view all_invoices as select 1 as one; grant select on all_invoices to rowhouse_app',
    'drop materialized view all_invoices',
  ],
  [
    'sequence_privilege',
    'public.numbers',
    'create sequence numbers; grant select on sequence numbers to rowhouse_app',
    'drop sequence numbers',
  ],
  [
    'rule',
    'also on public.invoices',
    'create rule also as on insert to invoices do also nothing',
    'drop rule also on invoices',
  ],
  [
    'definer_function_search_path',
    'public.helper()',
    'create function helper() returns int language plpgsql security definer as $$ begin return 1; end $$',
    'drop function helper()',
  ],
  [
    'definer_function_search_path',
    'public.helper()',
    `create function helper() returns int language plpgsql security definer set search_path = pg_temp, public
      as $$ begin return 1; end $$`,
    'alter function helper() set search_path = public, pg_temp; drop function helper()',
  ],
  [
    'policy_function_not_stable',
    'public.fixed()',
    `create function fixed() returns text language sql immutable return 'acme';
      create policy narrow on invoices as restrictive using (note <> fixed())`,
    'drop policy narrow on invoices; drop function fixed()',
  ],
  [
    'default_privileges',
    'tables of %owner',
    'alter default privileges grant select on tables to rowhouse_app',
    'alter default privileges revoke select on tables from rowhouse_app',
  ],
  ['create_privilege', 'schema lab', 'create schema lab; grant create on schema lab to public', 'drop schema lab'],
]

describe('each kind of gap', () => {
  test.each(GAPS.map((gap, index) => [gap[0], gap[1], index + 1, gap] as const))(
    '%s on %s (%i)',
    needs('realRoles'),
    async (_kind, _object, _number, [kind, object, make, mend]) => {
      const { rows } = await clients.owner.query('select quote_ident(current_user) as owner')
      const expected = object.replace('%owner', rows[0].owner)
      expect(await gaps()).toEqual([])
      await clients.owner.query(make)
      try {
        const found = (await gaps()).map((gap) => `${gap.kind}: ${gap.object}`)
        expect(found).toContain(`${kind}: ${expected}`)
      } finally {
        await clients.owner.query(mend)
      }
      expect(await gaps()).toEqual([])
    },
  )

  test('a function of an owner whom policies do not hold for', needs('superuser', 'realRoles'), async () => {
    const superuser = await database.connect('superuser')
    await expectClosed({
      probe: async () => (await gaps()).map(({ kind }) => kind),
      removeProtection: () =>
        superuser.query(`create function public.peek() returns int language plpgsql security definer
          set search_path = pg_catalog, pg_temp as $$ begin return 1; end $$`),
      restoreProtection: () => superuser.query('drop function public.peek()'),
    })
  })

  test('a preset tenant, and a foreign table', needs('superuser', 'realRoles'), async () => {
    const superuser = await database.connect('superuser')
    const name = `"${database.name}"`
    await expectClosed({
      probe: async () => (await gaps()).filter(({ kind }) => kind === 'preset_tenant'),
      removeProtection: () => superuser.query(`alter database ${name} set app.tenant_id = 'acme'`),
      restoreProtection: () => superuser.query(`alter database ${name} reset app.tenant_id`),
    })
    await expectClosed({
      probe: async () => (await gaps()).filter(({ kind }) => kind === 'foreign_table'),
      removeProtection: () =>
        superuser.query(`create foreign data wrapper nothing; create server elsewhere foreign data wrapper nothing;
          create foreign table remote (id int) server elsewhere; grant select on remote to rowhouse_app`),
      restoreProtection: () => superuser.query('drop foreign data wrapper nothing cascade'),
    })
  })

  test(
    'a role of requests that policies do not hold for, or that owns tables',
    needs('superuser', 'realRoles'),
    async () => {
      const superuser = await database.connect('superuser')
      const role = `requests_${randomBytes(4).toString('hex')}`
      await superuser.query(`create role ${role} in role rowhouse_app`)
      try {
        const kinds = async () => [
          ...new Set((await findIsolationGaps(clients.owner, { ...options, role })).map(({ kind }) => kind)),
        ]
        expect(await kinds()).toEqual([])
        await superuser.query(`alter role ${role} bypassrls`)
        expect(await kinds()).toEqual(['exempt_role'])
        await superuser.query(`alter role ${role} nobypassrls; grant pg_write_server_files to ${role}`)
        expect(await kinds()).toEqual(['server_role'])
        const { rows } = await clients.owner.query('select quote_ident(current_user) as owner')
        await superuser.query(`grant ${rows[0].owner} to ${role}`)
        expect(await kinds()).toContain('owning_role')
      } finally {
        await superuser.query(`drop role ${role}`)
      }
    },
  )
})

test('every gap says what, where, why and how to mend it', async () => {
  await clients.owner.query('alter table invoices disable row level security; create table drafts (tenant_id text)')
  expect(await gaps()).toEqual([
    {
      level: 'error',
      kind: 'row_security_off',
      table: 'public.invoices',
      object: 'public.invoices',
      detail: 'row-level security is not enabled',
      mend: "select rowhouse.protect_table('public.invoices', 'tenant_id')",
    },
    expect.objectContaining({ level: 'warning', kind: 'unregistered_table', table: 'public.drafts' }),
  ])
  for (const { mend } of await gaps()) await clients.owner.query(mend.replace(/, or: .*/, ''))
  await protect(clients.owner, 'drafts')
  expect((await gaps()).filter(({ level }) => level === 'error')).toEqual([])
  await clients.owner.query('drop table drafts')
})

test('a connection string and a pool work as well, and the search path of a client stays', async () => {
  expect(await findIsolationGaps(database.url('owner'), options)).toEqual([])
  expect(await findIsolationGaps(database.pool('owner', { max: 1 }), options)).toEqual([])
  for (const path of ['"$user", public', "''", 'public, pg_catalog']) {
    await clients.owner.query(`set search_path = ${path}`)
    await findIsolationGaps(clients.owner, { sharedTables: ['public.countries'] })
    const { rows } = await clients.owner.query('show search_path')
    expect(rows[0].search_path).toBe(path === "''" ? '""' : path)
  }
  await clients.owner.query('reset search_path')
})

test('what is wrong with a call is said in a sentence', needs('realRoles'), async () => {
  const call = (...args: Parameters<typeof findIsolationGaps>) => findIsolationGaps(...args).catch((error) => error)
  expect(await call(clients.owner, { sharedTables: ['nowhere'] })).toMatchObject({
    code: 'invalid_argument',
    message: 'There is no table nowhere.',
  })
  expect(await call(clients.owner, { role: 'nobody_of_that_name' })).toMatchObject({ code: 'invalid_argument' })
  expect(await call(database.url('app'))).toMatchObject({ code: 'missing_privilege' })
  expect(await call({} as never)).toMatchObject({ code: 'invalid_argument' })
})
