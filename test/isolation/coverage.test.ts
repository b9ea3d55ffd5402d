// Coverage, read from the catalogs alone: whatever rowhouse_app can reach is protected or on a short explained list, and
// every object of rowhouse keeps the conventions that the other tests rely on. A new table that nobody protected, a
// function without a pinned search_path, an object without a comment: each makes this file fail by itself.
import { beforeAll, describe, expect, test } from 'vitest'
import { findIsolationGaps } from '../../src/testing/index.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { ACME, protect, useAppTables } from './support/app-tables.ts'
import { useClients } from './support/clients.ts'
import {
  FUNCTIONS_WITH_THE_PATH_OF_THEIR_CALLER,
  functionGaps,
  type Gap,
  PUBLIC_FUNCTIONS,
  policyFunctionGaps,
  relationGaps,
  uncommented,
  unownedObjects,
} from './support/conventions.ts'
import { expectClosed } from './support/expect-closed.ts'
import { exposures } from './support/exposures.ts'
import { inTenant, undone } from './support/in-tenant.ts'
import { knownTables, reachableRelations } from './support/reachable-relations.ts'
import { functionsFile, functionsFiles } from './support/sql-files.ts'

const database = useDatabase()
useAppTables(database)
const clients = useClients(database, 'owner', 'app')

beforeAll(async () => {
  // Tables of every kind that protect_table knows, so that the walk meets each.
  await clients.owner.query(`
    create table by_uuid (tenant_id uuid not null, id int, primary key (tenant_id, id));
    create table by_number (account bigint not null, id int, primary key (account, id));
    create table by_day (tenant_id text not null, day date, primary key (tenant_id, day)) partition by range (day);
    create table by_day_2026 partition of by_day for values from ('2026-01-01') to ('2027-01-01')`)
  await protect(clients.owner, 'by_uuid')
  await protect(clients.owner, 'by_number', { column: 'account' })
  await protect(clients.owner, 'by_day')
  if (database.engine.pgvector) {
    await clients.owner.query(
      "begin; set local role rowhouse_admin; select rowhouse.create_collection('notes', 3); commit",
    )
  }
})

const asRowhouseOwner = (sql: string) => () =>
  clients.owner.query(`begin; set local role rowhouse_owner; ${sql}; commit`)
const asOwner = (sql: string) => () => clients.owner.query(sql)

describe('relations', () => {
  test('everything that the application can reach is protected, or a registry', async () => {
    expect(await exposures(clients.owner)).toEqual([])
  })

  test.each([
    ['a new table', 'create table fresh (tenant_id text); grant select on fresh to rowhouse_app', 'drop table fresh'],
    [
      'a new table for everybody',
      'create table fresh (tenant_id text); grant insert on fresh to public',
      'drop table fresh',
    ],
    [
      'one column of a new table',
      'create table fresh (tenant_id text); grant select (tenant_id) on fresh to rowhouse_app',
      'drop table fresh',
    ],
    ['a view', 'create view fresh as select * from by_uuid; grant select on fresh to rowhouse_app', 'drop view fresh'],
    ['a partition', 'grant select on by_day_2026 to rowhouse_app', 'revoke select on by_day_2026 from rowhouse_app'],
    ['a further policy', 'create policy more on by_uuid using (true)', 'drop policy more on by_uuid'],
    ['truncate', 'grant truncate on by_uuid to rowhouse_app', 'revoke truncate on by_uuid from rowhouse_app'],
    [
      'references of one column',
      'grant references (id) on by_uuid to rowhouse_app',
      'revoke references (id) on by_uuid from rowhouse_app',
    ],
    ['a new table that nobody reaches yet', 'create table fresh as select * from by_uuid', 'drop table fresh'],
    [
      'a new partition that somebody attached',
      `create table fresh (like by_day including constraints);
        alter table by_day attach partition fresh for values from ('2030-01-01') to ('2031-01-01')`,
      'drop table fresh',
    ],
    [
      'a new partition with privileges by default',
      `alter default privileges grant select on tables to public;
        create table fresh partition of by_day for values from ('2030-01-01') to ('2031-01-01')`,
      'drop table fresh; alter default privileges revoke select on tables from public',
    ],
    [
      'a column of a partition',
      'grant update (day) on by_day_2026 to public',
      'revoke update (day) on by_day_2026 from public',
    ],
    ['a unique key without the tenant', 'create unique index fresh on by_uuid (id)', 'drop index fresh'],
    [
      'a unique key that only includes the tenant',
      'create unique index fresh on by_uuid (id) include (tenant_id)',
      'drop index fresh',
    ],
    [
      'a foreign key without the tenant',
      `create unique index fresh on by_uuid (id);
        alter table by_number add constraint fresh foreign key (id) references by_uuid (id)`,
      'alter table by_number drop constraint fresh; drop index fresh',
    ],
    [
      'a materialized view',
      'create materialized view fresh as select * from by_uuid; grant select on fresh to public',
      'drop materialized view fresh',
    ],
    [
      'a definer function that finds objects where its caller puts them',
      'create function fresh() returns int language plpgsql security definer as $$ begin return 1; end $$',
      'drop function fresh()',
    ],
    ['a rule', 'create rule fresh as on insert to by_uuid do also nothing', 'drop rule fresh on by_uuid'],
    [
      'the right to create',
      'grant create on schema public to rowhouse_app',
      'revoke create on schema public from rowhouse_app',
    ],
    ['a sequence', 'create sequence fresh; grant select on sequence fresh to rowhouse_app', 'drop sequence fresh'],
  ])('noticed: %s', async (_what, remove, restore) => {
    await expectClosed({
      probe: () => exposures(clients.owner),
      removeProtection: asOwner(remove),
      restoreProtection: asOwner(restore),
    })
  })

  test.each([
    ['row-level security disabled', 'alter table by_uuid disable row level security'],
    ['not forced', 'alter table by_uuid no force row level security'],
    ['no permissive policy', 'drop policy rowhouse_tenant on by_uuid'],
    ['no restrictive policy', 'drop policy rowhouse_isolation on by_uuid'],
    ['a looser condition', 'alter policy rowhouse_isolation on by_uuid using (true)'],
    ['a looser check', 'alter policy rowhouse_isolation on by_uuid with check (true)'],
    ['a policy for one role', 'alter policy rowhouse_isolation on by_uuid to rowhouse_app'],
    [
      'a permissive policy of that name',
      `drop policy rowhouse_isolation on by_uuid;
        create policy rowhouse_isolation on by_uuid using (tenant_id = '00000000-0000-4000-8000-000000000000')`,
    ],
    [
      'a policy for one command',
      'drop policy rowhouse_isolation on by_uuid; create policy rowhouse_isolation on by_uuid as restrictive for select using (true)',
    ],
    ['no write guard', 'drop trigger rowhouse_guard on by_uuid'],
    ['a write guard that never fires', 'alter table by_uuid disable trigger rowhouse_guard'],
    ['no default', 'alter table by_uuid alter column tenant_id drop default'],
    ['the tenant of a row may change', 'grant update (tenant_id) on by_uuid to rowhouse_app'],
  ])('noticed on a protected table: %s', async (_what, remove) => {
    await expectClosed({
      probe: () => exposures(clients.owner),
      removeProtection: asOwner(remove),
      restoreProtection: () => protect(clients.owner, 'by_uuid'),
    })
  })

  test.each([
    ['row-level security disabled', 'alter table by_day_2026 disable row level security'],
    ['no restrictive policy', 'drop policy rowhouse_isolation on by_day_2026'],
  ])('noticed on a partition: %s', async (_what, remove) => {
    await expectClosed({
      probe: () => exposures(clients.owner),
      removeProtection: asOwner(remove),
      restoreProtection: () => protect(clients.owner, 'by_day'),
    })
  })

  test('a new table of rowhouse itself is noticed', async () => {
    const probe = async () => [...(await exposures(clients.owner)), ...(await relationGaps(clients.owner))]
    for (const table of [
      'create table rowhouse.fresh (tenant_id text)',
      'create table rowhouse.fresh (id int); grant select on rowhouse.fresh to rowhouse_app',
      'create table rowhouse.fresh (tenant_id text); alter table rowhouse.fresh enable row level security',
    ]) {
      await expectClosed({
        probe,
        removeProtection: asRowhouseOwner(table),
        restoreProtection: asRowhouseOwner('drop table rowhouse.fresh'),
      })
    }
  })

  test('a registry whose row-level security is not forced, and a view of its owner, are noticed', async () => {
    for (const [remove, restore] of [
      [
        'alter table rowhouse.tenants no force row level security',
        'alter table rowhouse.tenants force row level security',
      ],
      [
        'alter table rowhouse.protected_tables disable row level security',
        'alter table rowhouse.protected_tables enable row level security',
      ],
      ['create view rowhouse.fresh as select * from rowhouse.tenants', 'drop view rowhouse.fresh'],
    ] as const) {
      await expectClosed({
        probe: () => relationGaps(clients.owner),
        removeProtection: asRowhouseOwner(remove),
        restoreProtection: asRowhouseOwner(restore),
      })
    }
  })

  test('operators reach no table of tenants: registries and receipts only', async () => {
    const sharedTables = [...(await knownTables(clients.owner, false)), 'rowhouse.exempt_tables']
    const gaps = () => findIsolationGaps(clients.owner, { role: 'rowhouse_admin', sharedTables })
    await expectClosed({
      probe: gaps,
      removeProtection: asOwner('create table fresh (id int); grant select on fresh to rowhouse_admin'),
      restoreProtection: asOwner('drop table fresh'),
    })
  })

  test('a registry is read only', async () => {
    const { rows } = await clients.owner.query('select relation::text from rowhouse.protected_tables limit 1')
    expect(rows).toHaveLength(1)
    await expectClosed({
      probe: () => exposures(clients.owner),
      removeProtection: asRowhouseOwner('grant insert on rowhouse.protected_tables to rowhouse_app'),
      restoreProtection: asRowhouseOwner('revoke insert on rowhouse.protected_tables from rowhouse_app'),
    })
  })

  test('the list of registries holds nothing that could be left out', async () => {
    const reachable = new Set((await reachableRelations(clients.owner)).map(({ name }) => name))
    expect((await knownTables(clients.owner, true)).filter((name) => !reachable.has(name))).toEqual([])
  })

  test('row_security = off makes a query fail on every tenant table that the application can reach', async () => {
    const registries = await knownTables(clients.owner, true)
    const relations = (await reachableRelations(clients.owner)).filter(
      ({ name, kind }) => kind !== 'S' && !registries.includes(name),
    )
    expect(relations.length).toBeGreaterThan(5)
    const readable = () =>
      inTenant(clients.app, ACME, async () => {
        await clients.app.query('set local row_security = off')
        const found: string[] = []
        for (const { name } of relations) {
          await undone(clients.app, async () => {
            await clients.app.query(`select from ${name}`)
            found.push(name)
          }).catch((error) => expect(error).toMatchObject({ code: '42501' }))
        }
        return found
      })
    await expectClosed({
      probe: readable,
      removeProtection: asOwner('alter table by_number disable row level security'),
      restoreProtection: () => protect(clients.owner, 'by_number', { column: 'account' }),
    })
  })
})

describe('functions', () => {
  test('every function is pinned, private, commented and owned by rowhouse_owner, or the list says why not', async () => {
    expect(await functionGaps(clients.owner)).toEqual([])
  })

  test('noticed: a function with the path of its caller that somebody else may execute', async () => {
    const [name] = Object.keys(FUNCTIONS_WITH_THE_PATH_OF_THEIR_CALLER)
    await expectClosed({
      probe: async () => (await functionGaps(clients.owner)).filter(({ gap }) => gap === 'search_path is not pinned'),
      removeProtection: asRowhouseOwner(`grant execute on function rowhouse.${name} to rowhouse_app`),
      restoreProtection: asRowhouseOwner(`revoke execute on function rowhouse.${name} from rowhouse_app`),
    })
  })

  test('the list of functions for everybody holds nothing that could be left out', async () => {
    const { rows } = await clients.owner.query<{ name: string }>(
      "select proname as name from pg_proc where pronamespace = 'rowhouse'::regnamespace and has_function_privilege('public', oid, 'execute')",
    )
    expect(rows.map(({ name }) => name).sort()).toEqual(Object.keys(PUBLIC_FUNCTIONS).sort())
  })

  const created = (options: string) =>
    `create function rowhouse.fresh() returns int language plpgsql ${options} as $$ begin return 1; end $$`
  const pinned = 'set search_path = pg_catalog, pg_temp'
  const comment = "comment on function rowhouse.fresh() is 'A function.'"
  test.each<[string, Gap, string]>([
    ['no search_path', 'search_path is not pinned', `${created('')}; ${comment}`],
    ['pg_temp first', 'search_path is not pinned', `${created('set search_path = pg_temp, pg_catalog')}; ${comment}`],
    ['pg_temp not named', 'search_path is not pinned', `${created('set search_path = pg_catalog')}; ${comment}`],
    [
      'for everybody',
      'everybody may execute it',
      `${created(pinned)}; ${comment}; grant execute on function rowhouse.fresh() to public`,
    ],
    ['no comment', 'has no comment', created(pinned)],
    [
      'an immutable function that reads a setting',
      'is immutable and reads a setting',
      `create function rowhouse.fresh() returns text language sql immutable return current_setting('app.tenant_id', true); ${comment}`,
    ],
    [
      'a definer function for the application',
      'runs with the rights of its owner',
      `${created(`security definer ${pinned}`)}; ${comment}; grant execute on function rowhouse.fresh() to rowhouse_app`,
    ],
  ])('noticed: %s', async (_what, gap, sql) => {
    await expectClosed({
      probe: async () => (await functionGaps(clients.owner)).filter((found) => found.gap === gap),
      removeProtection: asRowhouseOwner(sql),
      restoreProtection: asRowhouseOwner('drop function rowhouse.fresh()'),
    })
  })

  test('noticed: a leakproof function', needs('superuser'), async () => {
    const superuser = await database.connect('superuser')
    await expectClosed({
      probe: () => functionGaps(clients.owner),
      removeProtection: () => superuser.query('alter function rowhouse.current_tenant() leakproof'),
      restoreProtection: () => superuser.query('alter function rowhouse.current_tenant() not leakproof'),
    })
  })

  test('noticed: an owner that policies do not hold for', needs('superuser', 'realRoles'), async () => {
    const superuser = await database.connect('superuser')
    await expectClosed({
      probe: () => functionGaps(clients.owner),
      removeProtection: () => superuser.query('alter function rowhouse.guard_tenant_write() owner to current_user'),
      restoreProtection: () => superuser.query('alter function rowhouse.guard_tenant_write() owner to rowhouse_owner'),
    })
    expect(await unownedObjects(clients.owner)).toEqual([])
  })

  test('functions in a policy, where somebody uses one, are stable', async () => {
    await clients.owner.query(
      'create function immutable_tenant() returns uuid language sql immutable return null::uuid',
    )
    await expectClosed({
      probe: () => policyFunctionGaps(clients.owner),
      removeProtection: asOwner('create policy fixed on by_uuid as restrictive using (tenant_id = immutable_tenant())'),
      restoreProtection: asOwner('drop policy fixed on by_uuid'),
    })
  })
})

describe('objects', () => {
  test('every object of rowhouse has a comment', async () => {
    await expectClosed({
      probe: () => uncommented(clients.owner),
      removeProtection: asRowhouseOwner('create table rowhouse.fresh (id int)'),
      restoreProtection: asRowhouseOwner('drop table rowhouse.fresh'),
    })
  })

  test('every object of rowhouse belongs to rowhouse_owner, who is not exempt from policies', async () => {
    expect(await unownedObjects(clients.owner)).toEqual([])
  })

  test('the files of functions can be applied again without a change of the catalogs', async () => {
    const apply = async () => {
      await clients.owner.query('begin; set local role rowhouse_owner; set local client_min_messages = warning')
      for (const file of await functionsFiles()) await clients.owner.query(await functionsFile(file))
      await clients.owner.query('commit')
    }
    const before = await manifest()
    await apply()
    expect(await manifest()).toEqual(before)
  })
})

/** What the schema consists of, without object ids and row versions. */
async function manifest(): Promise<unknown[]> {
  const { rows } = await clients.owner.query(`
    select 'function' as kind, oid::regprocedure::text as name,
        concat_ws(' | ', pg_get_functiondef(oid), array(select a::text from unnest(proacl) a order by 1), proowner::regrole,
          obj_description(oid, 'pg_proc')) as definition
      from pg_proc where pronamespace = 'rowhouse'::regnamespace and prokind in ('f', 'p')
    union all
    select 'relation', oid::regclass::text, concat_ws(' | ', relkind, relrowsecurity, relforcerowsecurity, relowner::regrole,
        array(select a::text from unnest(relacl) a order by 1), obj_description(oid, 'pg_class'))
      from pg_class where relnamespace = 'rowhouse'::regnamespace
    union all
    select 'column', attrelid::regclass || '.' || attname, concat_ws(' | ', atttypid::regtype, attnotnull,
        array(select a::text from unnest(attacl) a order by 1), col_description(attrelid, attnum))
      from pg_attribute where attrelid in (select oid from pg_class where relnamespace = 'rowhouse'::regnamespace) and attnum > 0
    union all
    select 'policy', polname || ' on ' || polrelid::regclass, concat_ws(' | ', polcmd, polpermissive, polroles::regrole[],
        pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid), obj_description(oid, 'pg_policy'))
      from pg_policy
    union all
    select 'trigger', tgname || ' on ' || tgrelid::regclass, pg_get_triggerdef(oid) from pg_trigger where not tgisinternal
    order by 1, 2, 3`)
  return rows
}
