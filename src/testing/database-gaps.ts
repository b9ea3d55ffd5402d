import type pg from 'pg'
import type { IsolationGap } from './isolation-gap.ts'

/** Gaps that belong to no single table: roles, functions, settings, rights to create. */
export async function databaseGaps(client: pg.ClientBase, role: string): Promise<IsolationGap[]> {
  const gaps: IsolationGap[] = []
  for (const query of [ROLES, FUNCTIONS, POLICY_FUNCTIONS, SETTINGS, CREATE, DEFAULT_PRIVILEGES]) {
    const { rows } = await client.query<IsolationGap>(query, query.includes('$1') ? [role] : [])
    gaps.push(...rows)
  }
  return gaps
}

/** The role of requests, and every role that it may become. */
const ROLES = `
  select 'error' as level, 'exempt_role' as kind, null as "table", r.rolname as object,
      case when r.rolname = $1::name then 'row-level security does not hold for it: it is a superuser or has BYPASSRLS'
        else format('%s may become this role, for which row-level security does not hold', $1::name) end as detail,
      case when r.rolname = $1::name then format('alter role %I nosuperuser nobypassrls', r.rolname)
        else format('revoke %I from %I', r.rolname, $1::name) end as mend
    from pg_roles r
    where (r.rolsuper or r.rolbypassrls)
      and (r.rolname = $1::name or not (select s.rolsuper from pg_roles s where s.rolname = $1::name) and pg_has_role($1::name, r.oid, 'member'))
  union all
  select 'error', 'owning_role', format('%I.%I', n.nspname, c.relname), o.rolname,
      format('%s may act as the owner of the table, who can take its protection away', $1::name),
      case when o.rolname = $1::name then format('alter table %s owner to <a role of its own>', c.oid::regclass)
        else format('revoke %I from %I', o.rolname, $1::name) end
    from rowhouse.protected_tables p
    join pg_class c on c.oid = p.relation
    join pg_namespace n on n.oid = c.relnamespace
    join pg_roles o on o.oid = c.relowner
    where not (select s.rolsuper from pg_roles s where s.rolname = $1::name) and pg_has_role($1::name, o.oid, 'member')`

/** Functions that run with the rights of their owner, and that the role may call. */
const FUNCTIONS = `
  select g.level, g.kind, null as "table", p.oid::regprocedure::text as object, g.detail, g.mend
    from pg_proc p
    join pg_roles o on o.oid = p.proowner
    cross join lateral (
      select 'error' as level, 'function_of_exempt_owner' as kind,
          format('runs with the rights of %I, for whom row-level security does not hold, and %s may call it', o.rolname, $1::name) as detail,
          format('alter function %s security invoker', p.oid::regprocedure) as mend
        where o.rolsuper or o.rolbypassrls
      union all
      -- A body of the SQL standard is bound when the function is made; no path is searched when it runs.
      select 'warning', 'definer_function_search_path',
          'runs with the rights of its owner and finds objects where its caller puts them',
          format('alter function %s set search_path = pg_catalog, pg_temp', p.oid::regprocedure)
        where p.prosqlbody is null and not exists (
          select from unnest(p.proconfig) s (setting) where s.setting ~ '^search_path=(.*, *)?"?pg_temp"?$')
    ) g
    where p.prosecdef and p.pronamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
      and p.prorettype <> all (array['trigger', 'event_trigger']::regtype[])
      and has_function_privilege($1::name, p.oid, 'execute') and has_schema_privilege($1::name, p.pronamespace, 'usage')
      and p.pronamespace <> pg_my_temp_schema()
      and not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')`

/** An immutable function is folded into a cached plan, which the next tenant uses. */
const POLICY_FUNCTIONS = `
  select distinct 'error' as level, 'policy_function_not_stable' as kind, format('%I.%I', n.nspname, c.relname) as "table",
      f.oid::regprocedure::text as object,
      format('policy %I calls it, and it is not marked stable: cached plans keep what it returned for another tenant', p.polname) as detail,
      format('alter function %s stable', f.oid::regprocedure) as mend
    from pg_policy p
    join pg_class c on c.oid = p.polrelid
    join pg_namespace n on n.oid = c.relnamespace
    join pg_depend d on d.classid = 'pg_policy'::regclass and d.objid = p.oid and d.refclassid = 'pg_proc'::regclass
    join pg_proc f on f.oid = d.refobjid
    where f.provolatile = 'i'`

/** A tenant that is there before anybody set one: "no tenant" would not be "no rows". */
const SETTINGS = `
  select 'error' as level, 'preset_tenant' as kind, null as "table",
      case when s.setrole = 0 then 'all roles' else pg_get_userbyid(s.setrole)::text end as object,
      format('%s is set from the start of every session', split_part(c.setting, '=', 1)) as detail,
      format('alter %s reset %s', concat_ws(' in ',
        case when s.setrole <> 0 then format('role %I', pg_get_userbyid(s.setrole)) end,
        case when s.setdatabase <> 0 then format('database %I', current_database()) end),
        split_part(c.setting, '=', 1)) as mend
    from pg_db_role_setting s
    cross join unnest(s.setconfig) c (setting)
    where s.setdatabase in (0, (select d.oid from pg_database d where d.datname = current_database()))
      and split_part(c.setting, '=', 1) = 'app.tenant_id'`

/** What the role creates has no policies, and is found by the bare names of others. */
const CREATE = `
  select 'error' as level, 'create_privilege' as kind, null as "table", format('schema %I', n.nspname) as object,
      format('%s may create objects in it', $1::name) as detail,
      format('revoke create on schema %I from public, %I', n.nspname, $1::name) as mend
    from pg_namespace n
    where not (select s.rolsuper from pg_roles s where s.rolname = $1::name) and has_schema_privilege($1::name, n.oid, 'create')
      and n.nspname not like 'pg\\_temp\\_%' and n.nspname not like 'pg\\_toast\\_temp\\_%'
  union all
  select 'error', 'create_privilege', null, format('database %I', current_database()),
      format('%s may create schemas in it', $1::name),
      format('revoke create on database %I from public, %I', current_database(), $1::name)
    where not (select s.rolsuper from pg_roles s where s.rolname = $1::name) and has_database_privilege($1::name, current_database(), 'create')`

/** Tables that are created later would be open before anybody protects them; so would partitions. */
const DEFAULT_PRIVILEGES = `
  select 'warning' as level, 'default_privileges' as kind, null as "table",
      concat_ws(' ', format('tables of %I', pg_get_userbyid(d.defaclrole)), 'in schema ' || nullif(d.defaclnamespace, 0)::regnamespace) as object,
      format('%s gets %s on tables that are created later, before anybody protects them',
        case a.grantee when 0 then 'public' else pg_get_userbyid(a.grantee)::text end,
        string_agg(lower(a.privilege_type), ', ' order by a.privilege_type)) as detail,
      format('alter default privileges for role %I%s revoke all on tables from %s', pg_get_userbyid(d.defaclrole),
        coalesce(format(' in schema %s', nullif(d.defaclnamespace, 0)::regnamespace), ''),
        case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end) as mend
    from pg_default_acl d
    cross join aclexplode(d.defaclacl) a
    where d.defaclobjtype = 'r' and a.grantee <> d.defaclrole
      and (a.grantee = 0 or pg_has_role($1::name, a.grantee, 'member'))
    group by d.oid, d.defaclrole, d.defaclnamespace, a.grantee`
