// Mutation of the SQL: each protection is taken away or weakened, in a transaction that is rolled back, and at least one
// detector has to notice: the coverage checks, the manifest of privileges, or a probe. A mutant that survives is a
// protection that no test would miss. mutation-policies.test.ts has the mutants of policies.
import { describe, expect, test } from 'vitest'
import { findIsolationGaps } from '../../src/testing/index.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { QUALIFIED_FUNCTIONS, READS_TENANT } from './support/conventions.ts'
import { firstToNotice } from './support/detectors.ts'
import {
  FUNCTIONS,
  mutant,
  ofEach,
  PARTITIONS,
  readNames,
  survivors,
  TABLES,
  TIMEOUT,
  useMutants,
} from './support/mutants.ts'

// Where every login is a superuser, its policies and privileges hold for nobody.
const database = useDatabase({ needs: ['realRoles'] })
const mutation = useMutants(database)
const { clients } = mutation
const read = (sql: string) => readNames(clients.owner, sql)

test('nothing is noticed without a mutant, by any detector', TIMEOUT, async () => {
  await clients.owner.query('begin')
  try {
    for (const [name, detect] of Object.entries(mutation.detectors)) {
      expect(await firstToNotice(clients.owner, { [name]: detect }), name).toBeUndefined()
    }
  } finally {
    await clients.owner.query('rollback')
  }
})

describe('every mutant is noticed', TIMEOUT, () => {
  test('privileges', async () => {
    const mutants = [
      ...ofEach(
        await read(PARTITIONS),
        'grant select on %s to rowhouse_app',
        'grant insert on %s to public',
        'grant truncate on %s to rowhouse_app',
      ),
      ...ofEach(
        await read(TABLES),
        'grant truncate on %s to rowhouse_app',
        'grant references on %s to rowhouse_app',
        'grant trigger on %s to public',
        'grant update on %s to rowhouse_app',
        'grant update (tenant_id) on %s to rowhouse_app',
        'grant all on %s to public',
      ),
      ...ofEach(
        ['rowhouse'],
        'grant create on schema %s to rowhouse_app',
        'grant usage on schema %s_partitions to rowhouse_app',
        'grant select on all tables in schema %s to rowhouse_app',
        'grant insert on %s.tenants to rowhouse_app',
        'grant select (lock_key) on %s.tenants to rowhouse_app',
        'grant update (status) on %s.tenants to rowhouse_admin',
        'grant delete on %s.erasures to rowhouse_admin',
        'grant insert on %s.protected_tables to rowhouse_app',
        'alter default privileges for role rowhouse_owner grant select on tables to rowhouse_app',
        'alter default privileges for role rowhouse_owner grant execute on functions to public',
      ),
    ]
    expect(await survivors(mutation.detectors, clients.owner, mutants)).toEqual([])
  })

  test('what makes a table tenant-owned', async () => {
    const guards = ofEach(
      await read(`${TABLES} and not rowhouse.is_written_by_functions_only(c.oid)`),
      'drop trigger rowhouse_guard on %s',
      'alter table %s disable trigger rowhouse_guard',
      'alter table %s enable replica trigger rowhouse_guard',
      'drop trigger rowhouse_guard on %s; create trigger rowhouse_guard before insert on %s for each statement execute function rowhouse.guard_tenant_write()',
    )
    const mutants = ofEach(
      await read(TABLES),
      'alter table %s alter column tenant_id drop default',
      'create view all_rows as select * from %s',
      'create materialized view all_rows as select * from %s; grant select on all_rows to rowhouse_app',
      'create rule also as on delete to %s do also nothing',
      'create table copies as select * from %s; grant select on copies to rowhouse_app',
      'create table copies as select * from %s',
    )
    const ofInvoices = [
      mutant("alter table invoices alter column tenant_id set default 'acme'"),
      mutant("alter policy rowhouse_tenant on invoices using (tenant_id = current_setting('app.tenant_id', true))"),
    ]
    expect(await survivors(mutation.detectors, clients.owner, [...guards, ...mutants, ...ofInvoices])).toEqual([])
  })

  test('keys and foreign keys without the tenant', async () => {
    const mutants = [
      'create unique index everywhere on invoices (id) where id < 0',
      "create unique index everywhere on invoices ((note || ''))",
      'create unique index everywhere on invoices (note) include (tenant_id)',
      'create unique index everywhere on by_uuid (id) where id > 0',
      'alter table invoices add constraint everywhere exclude using btree (note with =)',
      `create unique index everywhere on customers (id);
        alter table invoices add constraint everywhere foreign key (customer_id) references customers (id)`,
    ]
    expect(await survivors(mutation.detectors, clients.owner, mutants.map(mutant))).toEqual([])
  })

  test('the registries', async () => {
    const mutants = ofEach(
      ['rowhouse.tenants'],
      'alter policy tenant_own_row on %s using (true)',
      'create policy more on %s for select using (true)',
      'alter policy operators_see_all on %s to public',
      'alter policy owner_all on %s to public',
      'alter table %s disable row level security',
      'alter table %s no force row level security',
      'alter table rowhouse.protected_tables no force row level security',
      'alter table rowhouse.exempt_tables disable row level security',
      'create table rowhouse.notes (tenant_id text)',
      'create view rowhouse.everybody as select tenant_id, name from %s',
    )
    expect(await survivors(mutation.detectors, clients.owner, mutants)).toEqual([])
  })

  test('every function of rowhouse', async () => {
    const functions = await read(FUNCTIONS)
    const searching = await read(`${FUNCTIONS} and p.prosqlbody is null`)
    const pinned = await read(`${FUNCTIONS} and p.proconfig is not null`)
    const guarded = functions.filter(
      (name) =>
        !/^rowhouse\.(current_tenant|require_tenant|raise_no_tenant|sealed_tenant(_uuid|_bigint)?|clean_connection)\(/.test(
          name,
        ),
    )
    const mutants = [
      ...ofEach(pinned, 'alter routine %s reset search_path'),
      ...ofEach(searching, 'alter routine %s set search_path = pg_temp, pg_catalog'),
      ...ofEach(guarded, 'grant execute on routine %s to public'),
      ...ofEach(
        await read(`${FUNCTIONS} and not p.prosecdef and has_function_privilege('rowhouse_app', p.oid, 'execute')`),
        'alter routine %s security definer',
      ),
      ...ofEach(
        await read(`${FUNCTIONS} and ${READS_TENANT} and p.prokind = 'f' and p.prorettype <> 'trigger'::regtype`),
        'alter function %s immutable',
      ),
    ]
    expect(mutants.length).toBeGreaterThan(100)
    // From PostgreSQL 16 on, the login does not inherit the one role that owns a single function.
    const bySearch = mutants.map(({ name, sql }) => ({
      name,
      sql: sql.includes('rowhouse.find_words(') ? `set local role rowhouse_search; ${sql}` : sql,
    }))
    expect(await survivors(mutation.detectors, clients.owner, bySearch, 'conventions')).toEqual([])
  })

  /** Functions that do nothing, or the wrong thing. */
  const STUBS: readonly [signature: string, options: string, body: string][] = [
    ['enter_tenant() returns void', 'volatile', 'begin end'],
    ['enter(p_has_user boolean, p_has_request boolean)', '', 'begin end'],
    ['check_tenant_status(p_tenant text, p_status text) returns void', 'immutable', 'begin end'],
    ['check_tenant_id(p_tenant text) returns void', 'immutable', 'begin end'],
    ['raise_no_tenant() returns text', 'stable', "begin return 'acme'; end"],
    ['guard_tenant_write() returns trigger', 'volatile security definer', 'begin return null; end'],
    [
      'guard_tenant_write() returns trigger',
      'volatile security definer',
      `begin if (select status from rowhouse.tenants where tenant_id = current_setting('app.tenant_id', true)) <> 'active' then
        perform rowhouse.check_tenant_status('', 'suspended'); end if; return null; end`,
    ],
    ['tenant_condition(p_column name, p_type regtype) returns text', 'immutable', "begin return 'true'; end"],
    [
      'tenant_default(p_type regtype) returns text',
      'immutable',
      `begin return quote_literal('acme') || '::' || p_type; end`,
    ],
    ['policy_statements(p_relation regclass, p_column name, p_type regtype) returns setof text', 'stable', 'begin end'],
    [
      'has_tenant_policy(p_relation regclass, p_policy name, p_permissive boolean, p_column name, p_type regtype) returns boolean',
      'stable',
      'begin return true; end',
    ],
    ['secure_partition(p_partition regclass, p_column name, p_type regtype) returns void', 'volatile', 'begin end'],
    [
      'plan_policies(p_table regclass, p_column name, p_type regtype) returns table (statement text, purpose text)',
      'stable',
      'begin end',
    ],
    [
      'plan_privileges(p_table regclass, p_column name) returns table (statement text, purpose text)',
      'stable',
      `begin statement := format('grant all on %s to rowhouse_app', p_table); return next; end`,
    ],
    [
      'plan_tenant_column(p_table regclass, p_column name, p_type regtype, p_existing_rows text) returns table (statement text, purpose text)',
      'stable',
      'begin end',
    ],
    [
      'protection_findings(p_table regclass, p_column name) returns table (level text, kind text, object text, detail text, mend text)',
      'stable',
      'begin end',
    ],
    [
      'erase_tenant(p_tenant text, p_dry_run boolean) returns jsonb',
      'volatile security definer',
      "begin return '{}'; end",
    ],
    ['unregistered_obstacles(p_tenant text) returns table (message text, hint text)', 'stable', 'begin end'],
  ]

  test.each(STUBS.map(([signature, options, body], index) => [index + 1, signature, options, body] as const))(
    'a function that does something else, %i: %s',
    async (_number, signature, options, body) => {
      const name = signature!.slice(0, signature!.indexOf('('))
      // A default of a parameter can't be taken away, so it is kept.
      const { rows } = await clients.owner.query<{ given: string; result: string | null }>(
        "select pg_get_function_arguments(oid) as given, pg_get_function_result(oid) as result from pg_proc where proname = $1 and pronamespace = 'rowhouse'::regnamespace",
        [name],
      )
      expect(rows, `${name} is no function of rowhouse any more: mend the list`).toHaveLength(1)
      const { given, result } = rows[0]!
      const header =
        result === null
          ? `procedure rowhouse.${name}(${given})`
          : `function rowhouse.${name}(${given}) returns ${result}`
      const path = name in QUALIFIED_FUNCTIONS ? '' : 'set search_path = pg_catalog, pg_temp'
      const sql = `set local role rowhouse_owner; create or replace ${header}
        language plpgsql ${options} ${path} as $stub$ ${body} $stub$`
      expect(await survivors(mutation.detectors, clients.owner, [{ name: signature!, sql }])).toEqual([])
    },
  )
})

describe('with the rights of a superuser', { ...needs('superuser', 'realRoles'), ...TIMEOUT }, () => {
  test('owners and roles for whom policies do not hold, and leakproof functions', async () => {
    const superuser = await database.connect('superuser')
    const me = 'session_user'
    const mutants = [
      ...ofEach(await read(FUNCTIONS), `alter routine %s owner to ${me}`),
      ...ofEach(await read(`${FUNCTIONS} and p.prokind = 'f'`), 'alter function %s leakproof'),
      ...(await read(TABLES)).map((name) => ({
        name: `a view of a superuser on ${name}`,
        sql: `create view all_rows as select * from ${name}; grant select on all_rows to rowhouse_app`,
      })),
      {
        name: 'a function of a superuser',
        sql: `create function peek() returns setof invoices language sql security definer set search_path = public, pg_temp
          as $$ select * from invoices $$`,
      },
      { name: 'a preset tenant', sql: `alter database "${database.name}" set app.tenant_id = 'acme'` },
      {
        name: 'a foreign table',
        sql: `create foreign data wrapper nothing; create server elsewhere foreign data wrapper nothing;
          create foreign table remote (id int) server elsewhere; grant select on remote to rowhouse_app`,
      },
      {
        name: 'a schema of rowhouse of somebody else',
        sql: `alter schema rowhouse_partitions owner to ${me}; grant usage on schema rowhouse_partitions to rowhouse_app`,
      },
    ]
    expect(await survivors(mutation.detectors, superuser, mutants, 'conventions')).toEqual([])
  })

  test('a role of requests that may do more than rowhouse_app', async () => {
    const superuser = await database.connect('superuser')
    const role = `mutant_${database.name.replaceAll(/\W/g, '').slice(-20)}`
    const { rows } = await clients.owner.query('select quote_ident(current_user) as owner')
    const { owner } = rows[0]
    const survivors: string[] = []
    for (const statement of [
      `alter role ${role} bypassrls`,
      `alter role ${role} superuser`,
      `grant ${owner} to ${role}`,
      `create role exempt_${role} bypassrls; grant exempt_${role} to ${role}`,
      `grant rowhouse_owner to ${role}`,
      `grant truncate on invoices to ${role}`,
      `grant select on by_day_2026 to ${role}`,
      `grant create on schema public to ${role}`,
      `grant update on rowhouse.tenants to ${role}`,
      `alter table invoices owner to ${role}`,
    ]) {
      await superuser.query(`begin; create role ${role} in role rowhouse_app`)
      try {
        expect(await findIsolationGaps(superuser, { role })).toEqual([])
        await superuser.query(statement)
        if ((await findIsolationGaps(superuser, { role })).length === 0) survivors.push(statement)
      } finally {
        await superuser.query('rollback')
      }
    }
    expect(survivors).toEqual([])
  })
})
