import type { FindingLevel } from '../../src/doctor/finding.ts'

/** One thing that is wrong in a database, and nothing else. `%owner` is the login, `%database` the database. */
export interface Case {
  readonly lint: string
  /** What the finding names. */
  readonly object: string
  /** Default: that of the head of the lint. */
  readonly level?: FindingLevel
  readonly make: string
  readonly mend: string
  /** Made for the case, a member of rowhouse_app. */
  readonly role?: string
  /** Lints that can't help noticing as well. */
  readonly also?: readonly string[]
}

const protect = (table: string) => `select rowhouse.protect_table('${table}')`

export const CASES: readonly Case[] = [
  {
    lint: 'row_security_off',
    object: 'public.invoices',
    make: 'alter table invoices disable row level security',
    mend: protect('invoices'),
  },
  {
    lint: 'row_security_not_forced',
    object: 'public.by_day_2026',
    make: 'alter table by_day_2026 no force row level security',
    mend: protect('by_day'),
  },
  {
    lint: 'policy_differs',
    object: 'public.by_day_2026',
    make: 'drop policy rowhouse_isolation on by_day_2026',
    mend: protect('by_day'),
  },
  {
    lint: 'policy_differs',
    object: 'public.invoices',
    make: 'alter policy rowhouse_tenant on invoices using (true)',
    mend: protect('invoices'),
  },
  {
    lint: 'demotion_cut_off',
    object: 'tenant halved',
    make: `select rowhouse.provision_tenant('halved'); select rowhouse.promote_tenant('halved'); select rowhouse.begin_demotion('halved');
      set role rowhouse_owner; update rowhouse.tenants set updated_at = now() - interval '1 hour' where tenant_id = 'halved'; reset role`,
    mend: "select rowhouse.demote_tenant('halved')",
  },
  {
    lint: 'tenant_nullable',
    object: 'public.notes',
    make: `create table notes (tenant_id text, note text); ${protect('notes')}; alter table notes alter tenant_id drop not null`,
    mend: 'drop table notes',
  },
  {
    lint: 'tenant_without_default',
    object: 'public.invoices',
    make: "alter table invoices alter column tenant_id set default 'acme'",
    mend: protect('invoices'),
  },
  {
    lint: 'write_guard_missing',
    object: 'public.invoices',
    make: 'alter table invoices disable trigger rowhouse_guard',
    mend: 'alter table invoices enable trigger rowhouse_guard',
  },
  {
    lint: 'tenant_not_indexed',
    object: 'public.notes',
    make: `create table notes (tenant_id text, note text); ${protect('notes')}; drop index notes_tenant_id_idx`,
    mend: 'drop table notes',
  },
  {
    lint: 'tenant_updatable',
    object: 'public.invoices',
    make: 'grant update (tenant_id) on invoices to rowhouse_app',
    mend: 'revoke update (tenant_id) on invoices from rowhouse_app',
  },
  {
    lint: 'privilege_on_partition',
    object: 'public.by_day_2026',
    make: 'grant select on by_day_2026 to public',
    mend: 'revoke select on by_day_2026 from public',
  },
  {
    lint: 'privilege_around_policies',
    object: 'TRUNCATE on public.invoices',
    make: 'grant truncate on invoices to rowhouse_app',
    mend: 'revoke truncate on invoices from rowhouse_app',
  },
  {
    lint: 'key_without_tenant',
    object: 'note on public.invoices',
    make: 'create unique index note on invoices (note)',
    mend: 'drop index note',
  },
  {
    lint: 'foreign_key_without_tenant',
    object: 'thread on public.comments',
    make: `create table topics (id int primary key, tenant_id text); select rowhouse.exempt_table('topics', 'a test');
      create table comments (tenant_id text not null, id int, topic int, primary key (tenant_id, id),
        constraint thread foreign key (topic) references topics (id)); ${protect('comments')}`,
    mend: 'drop table comments; drop table topics; delete from rowhouse.exempt_tables',
  },
  {
    lint: 'foreign_key_changes_tenant',
    object: 'thread on public.comments',
    make: `create table comments (tenant_id text not null, id int, customer uuid, primary key (tenant_id, id),
        constraint thread foreign key (tenant_id, customer) references customers on delete set null); ${protect('comments')}`,
    mend: 'drop table comments',
  },
  {
    lint: 'permissive_policy',
    object: 'careless on public.invoices',
    make: 'create policy careless on invoices to rowhouse_app using (true)',
    mend: 'drop policy careless on invoices',
  },
  {
    lint: 'policy_hides_rows_from_erasure',
    object: 'narrow on public.invoices',
    make: "create policy narrow on invoices as restrictive using (note <> 'x')",
    mend: 'drop policy narrow on invoices',
  },
  {
    lint: 'rule',
    object: 'also on public.invoices',
    make: 'create rule also as on insert to invoices do also nothing',
    mend: 'drop rule also on invoices',
  },
  {
    lint: 'view_of_owner',
    object: 'public.all_invoices',
    make: 'create view all_invoices as select * from invoices',
    mend: 'drop view all_invoices',
  },
  {
    lint: 'publication',
    object: 'everything',
    make: 'create publication everything for table invoices',
    mend: 'drop publication everything',
  },
  {
    lint: 'materialized_view',
    object: 'public.all_invoices',
    make: 'create materialized view all_invoices as select * from invoices; grant select on all_invoices to rowhouse_app',
    mend: 'drop materialized view all_invoices',
  },
  {
    lint: 'sequence_privilege',
    object: 'public.numbers',
    make: 'create sequence numbers; grant select on sequence numbers to rowhouse_app',
    mend: 'drop sequence numbers',
  },
  {
    lint: 'unprotected_table',
    object: 'public.drafts',
    make: 'create table drafts (tenant_id text); grant insert on drafts to rowhouse_app',
    mend: 'drop table drafts',
  },
  {
    lint: 'shared_table_writable',
    object: 'public.countries',
    make: 'grant update (name) on countries to rowhouse_app',
    mend: 'revoke update (name) on countries from rowhouse_app',
  },
  {
    lint: 'unregistered_table',
    object: 'public.drafts',
    make: 'create table drafts (tenant_id text)',
    mend: 'drop table drafts',
  },
  {
    lint: 'temp_privilege',
    object: 'database %database',
    make: 'grant temporary on database "%database" to public',
    mend: 'revoke temporary on database "%database" from public',
  },
  {
    lint: 'create_privilege',
    object: 'schema lab',
    make: 'create schema lab; grant create on schema lab to public',
    mend: 'drop schema lab',
  },
  {
    lint: 'default_privileges',
    object: 'tables of %owner',
    make: 'alter default privileges grant select on tables to rowhouse_app',
    mend: 'alter default privileges revoke select on tables from rowhouse_app',
  },
  {
    lint: 'definer_function_search_path',
    object: 'public.helper()',
    make: 'create function helper() returns int language plpgsql security definer as $$ begin return 1; end $$',
    mend: 'drop function helper()',
  },
  {
    lint: 'function_search_path',
    object: 'public.helper()',
    make: `create function helper() returns text language plpgsql stable as $$ begin return 'x'; end $$;
      create policy narrow on invoices as restrictive to rowhouse_app using (note <> helper())`,
    mend: 'drop policy narrow on invoices; drop function helper()',
  },
  {
    lint: 'policy_function_not_stable',
    object: 'public.fixed()',
    make: `create function fixed() returns text language sql immutable return current_setting('app.tenant_id', true);
      create policy narrow on invoices as restrictive to rowhouse_app using (note <> fixed())`,
    mend: 'drop policy narrow on invoices; drop function fixed()',
  },
  {
    lint: 'policy_reads_table',
    object: 'by_list on public.invoices',
    make: `create policy by_list on invoices as restrictive to rowhouse_app
        using (exists (select from countries c where c.code = note))`,
    mend: 'drop policy by_list on invoices',
  },
  {
    lint: 'policy_reads_table',
    object: 'by_list on public.by_day_2026',
    make: 'create policy by_list on by_day_2026 as restrictive to rowhouse_app using ((select count(*) from countries) > 0)',
    mend: 'drop policy by_list on by_day_2026',
  },
  {
    lint: 'session_tenant',
    object: 'public.become(text)',
    make: `create function become(text) returns text language sql set search_path = pg_catalog, pg_temp
      as $$ select set_config('app.tenant_id', $1, false) $$`,
    mend: 'drop function become(text)',
  },
  {
    lint: 'session_tenant',
    object: 'public.become(text)',
    make: `create function become(text) returns void language plpgsql set search_path = pg_catalog, pg_temp
      as $$ begin set app.tenant_id = 'acme'; end $$`,
    mend: `create or replace function become(text) returns void language plpgsql set search_path = pg_catalog, pg_temp
      as $$ begin set local app.tenant_id = 'acme'; perform set_config('app.tenant_id', $1, true); end $$`,
  },
  {
    lint: 'large_object_access',
    object: 'large objects',
    make: 'select lo_create(424242); grant select on large object 424242 to rowhouse_app',
    mend: 'select lo_unlink(424242)',
  },
  {
    lint: 'extended_statistics',
    object: 'statistics public.common_notes',
    make: 'create statistics common_notes (mcv) on tenant_id, note from invoices',
    mend: 'drop statistics common_notes; create statistics common_notes (ndistinct, dependencies) on tenant_id, note from invoices',
  },
  {
    lint: 'extended_statistics',
    object: 'statistics public.lengths',
    make: 'create statistics lengths on (length(note)) from invoices',
    mend: 'drop statistics lengths',
  },
]

/** Whom the system shows extended statistics. */
function replaceInStatisticsView(found: string, other: string): string {
  return `set allow_system_table_mods = on;
    do $$ begin execute 'create or replace view pg_catalog.pg_stats_ext as '
      || replace(pg_get_viewdef('pg_stats_ext'::regclass), '${found}', '${other}'); end $$;
    reset allow_system_table_mods`
}

export const SUPERUSER_CASES: readonly Case[] = [
  {
    lint: 'connecting_function',
    object: 'extension dblink',
    make: 'create extension dblink',
    mend: 'create schema if not exists dblink_only; alter extension dblink set schema dblink_only',
  },
  {
    lint: 'connecting_function',
    object: 'extension dblink',
    make: `drop extension if exists dblink; create schema outside; create extension dblink schema outside;
      grant usage on schema outside to rowhouse_app`,
    mend: 'revoke execute on all functions in schema outside from public; drop extension dblink; drop schema outside',
  },
  {
    lint: 'foreign_server_usage',
    object: 'foreign server elsewhere',
    make: `create foreign data wrapper nothing; create server elsewhere foreign data wrapper nothing;
      grant usage on foreign server elsewhere to rowhouse_app`,
    mend: 'revoke usage on foreign server elsewhere from public, rowhouse_app; drop foreign data wrapper nothing cascade',
  },
  {
    lint: 'server_role',
    object: 'pg_read_server_files',
    role: 'doctor_reader',
    make: 'grant pg_read_server_files to doctor_reader',
    mend: 'revoke pg_read_server_files from doctor_reader',
  },
  {
    lint: 'server_role',
    object: 'pg_read_all_stats',
    level: 'warning',
    role: 'doctor_monitor',
    make: 'grant pg_monitor to doctor_monitor',
    mend: 'revoke pg_monitor from doctor_monitor',
  },
  {
    lint: 'statistics_privilege',
    object: 'pg_catalog.pg_statistic',
    make: 'grant select (stavalues1) on pg_statistic to rowhouse_app',
    mend: 'revoke select (stavalues1) on pg_statistic from rowhouse_app',
  },
  {
    lint: 'extended_statistics',
    object: 'statistics public.common_values',
    level: 'error',
    make: `create statistics common_values (mcv) on tenant_id, note from invoices;
      grant select on pg_statistic_ext_data to rowhouse_app`,
    mend: 'revoke select on pg_statistic_ext_data from rowhouse_app; drop statistics common_values',
    also: ['statistics_privilege'],
  },
  {
    lint: 'foreign_partition',
    object: 'public.by_day_elsewhere',
    make: `create foreign data wrapper nothing; create server elsewhere foreign data wrapper nothing;
      create table far (tenant_id text not null, day date) partition by range (day); select rowhouse.protect_table('far');
      create foreign table by_day_elsewhere (tenant_id text not null, day date) server elsewhere;
      alter table far attach partition by_day_elsewhere for values from ('2030-01-01') to ('2031-01-01')`,
    mend: 'drop table far; drop foreign data wrapper nothing cascade',
    // A foreign table can't have policies either.
    also: ['row_security_off', 'row_security_not_forced', 'policy_differs'],
  },
  {
    lint: 'foreign_table',
    object: 'public.remote',
    make: `create foreign data wrapper nothing; create server elsewhere foreign data wrapper nothing;
      create foreign table remote (id int) server elsewhere; grant select on remote to rowhouse_app`,
    mend: 'drop foreign data wrapper nothing cascade',
  },
  {
    lint: 'view_of_owner',
    object: 'public.all_invoices',
    level: 'error',
    make: 'create view all_invoices as select * from invoices; grant select on all_invoices to rowhouse_app',
    mend: 'drop view all_invoices',
  },
  {
    lint: 'exempt_role',
    object: 'doctor_exempt',
    role: 'doctor_exempt',
    make: 'alter role doctor_exempt bypassrls',
    mend: 'alter role doctor_exempt nobypassrls',
  },
  {
    lint: 'owning_role',
    object: 'doctor_keeper',
    role: 'doctor_owning',
    make: `create role doctor_keeper; create table kept (tenant_id text not null, id int, primary key (tenant_id, id));
      ${protect('kept')}; alter table kept owner to doctor_keeper; grant doctor_keeper to doctor_owning`,
    mend: 'drop table kept; drop role doctor_keeper',
    // An owner has every privilege.
    also: ['privilege_around_policies', 'tenant_updatable'],
  },
  {
    lint: 'operating_role',
    object: 'rowhouse_admin',
    role: 'doctor_operating',
    make: 'grant rowhouse_admin to doctor_operating',
    mend: 'revoke rowhouse_admin from doctor_operating',
    // What operators read.
    also: ['unprotected_table'],
  },
  {
    lint: 'function_of_exempt_owner',
    object: 'public.peek()',
    make: `create function public.peek() returns int language plpgsql security definer
      set search_path = pg_catalog, pg_temp as $$ begin return 1; end $$`,
    mend: 'drop function public.peek()',
  },
  {
    lint: 'leakproof_function',
    object: 'public.peek(text)',
    make: 'create function public.peek(text) returns boolean language plpgsql leakproof as $$ begin return true; end $$',
    mend: 'drop function public.peek(text)',
  },
  {
    lint: 'preset_tenant',
    object: 'all roles',
    make: `alter database "%database" set app.tenant_id = 'acme'`,
    mend: 'alter database "%database" reset app.tenant_id',
  },
  {
    lint: 'unpatched_statistics_view',
    object: 'pg_catalog.pg_stats_ext',
    make: replaceInStatisticsView(
      "pg_has_role(c.relowner, ''USAGE''::text)",
      "has_table_privilege(c.oid, ''select''::text)",
    ),
    mend: replaceInStatisticsView(
      "has_table_privilege(c.oid, ''select''::text)",
      "pg_has_role(c.relowner, ''USAGE''::text)",
    ),
  },
  {
    lint: 'session_tenant',
    object: 'public.fixed_tenant()',
    make: `create function fixed_tenant() returns int language plpgsql
      set search_path = pg_catalog, pg_temp set app.tenant_id = 'acme' as $$ begin return 1; end $$`,
    mend: 'alter function fixed_tenant() reset "app.tenant_id"',
  },
  {
    lint: 'preset_setting',
    object: 'row_security of rowhouse_app',
    level: 'warning',
    make: 'alter role rowhouse_app in database "%database" set row_security = off',
    mend: 'alter role rowhouse_app in database "%database" reset row_security',
  },
  {
    lint: 'preset_setting',
    object: 'session_replication_role of all roles',
    level: 'error',
    make: 'alter database "%database" set session_replication_role = replica',
    mend: 'alter database "%database" reset session_replication_role',
  },
]
