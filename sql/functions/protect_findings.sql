-- Findings: what protecting a table cannot make safe, for its owner to decide.
--
-- Depends on: policies.sql. Proven by: test/protect/findings.test.ts.

create or replace function rowhouse.holds_tenants(p_table regclass) returns boolean
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (select from rowhouse.protected_tables t where t.relation = p_table)
    or exists (select from pg_attribute a
      where a.attrelid = p_table and a.attnum > 0 and not a.attisdropped
        and (a.attname = 'tenant_id' or a.attname in (select t.tenant_column from rowhouse.protected_tables t))
        and p_table <> 'rowhouse.tenants'::regclass);
end
$$;

comment on function rowhouse.holds_tenants(regclass) is
  'Whether the table is protected, or has a column named as tenant columns are.';

create or replace function rowhouse.views_on(p_relations regclass[]) returns setof regclass
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    with recursive views as (
      select r.ev_class as view from pg_depend d join pg_rewrite r on r.oid = d.objid
        where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass
          and d.refobjid = any (p_relations) and r.ev_class <> all (p_relations)
      union
      select r.ev_class from views v
        join pg_depend d on d.refobjid = v.view and d.refclassid = 'pg_class'::regclass and d.classid = 'pg_rewrite'::regclass
        join pg_rewrite r on r.oid = d.objid
        where r.ev_class <> v.view
    )
    select v.view::regclass from views v;
end
$$;

comment on function rowhouse.views_on(regclass[]) is 'Views and materialized views that read these relations, directly or through other views.';

create or replace function rowhouse.key_findings(p_table regclass, p_attribute smallint, p_column name, p_relations regclass[])
  returns table (level text, kind text, object text, detail text, mend text)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- P29, P30: a tenant learns from an error, or from waiting, that another tenant has the same key.
  return query
    select 'error', 'key_without_tenant', format('%I on %s', c.relname, i.indrelid::regclass),
        format('unique over all tenants: a tenant sees, by a conflict or by waiting, that another one has the same %s',
          coalesce((select string_agg(quote_ident(a.attname), ', ' order by array_position(i.indkey::smallint[], a.attnum))
            from pg_attribute a where a.attrelid = i.indrelid and a.attnum = any (i.indkey::smallint[])), 'expression')),
        case when k.conname is null
          then format('drop index %s; create unique index on %s (%I, ...)', i.indexrelid::regclass, i.indrelid::regclass, p_column)
          else format('alter table %s drop constraint %I, add %s (%I%s, ...)', i.indrelid::regclass, k.conname,
            case k.contype when 'p' then 'primary key' when 'u' then 'unique' else 'exclude using gist' end, p_column,
            case when k.contype = 'x' then ' with =' else '' end)
        end
      from pg_index i
      join pg_class c on c.oid = i.indexrelid and not c.relispartition
      left join pg_constraint k on k.conindid = i.indexrelid and k.conrelid = i.indrelid and k.contype in ('p', 'u', 'x')
      where i.indrelid = any (p_relations) and (i.indisunique or i.indisexclusion)
        -- On a partition the column may have another number.
        and not exists (
          select from pg_attribute a
            where a.attrelid = i.indrelid and a.attname = p_column
              and a.attnum = any ((i.indkey::smallint[])[0 : i.indnkeyatts - 1]));

  -- P31: a foreign key is checked without policies: it tells whether another tenant's row exists, and acts on it.
  return query
    select 'error', 'foreign_key_without_tenant', format('%I on %s', k.conname, k.conrelid::regclass),
        format('refers from %s to %s without the tenant: it tells whether a row of another tenant exists%s',
          k.conrelid::regclass, k.confrelid::regclass,
          case when k.confdeltype in ('c', 'n', 'd') then ', and a delete changes rows of another tenant' else '' end),
        format('make (tenant, id) the key of %s and let %s refer to both columns', k.confrelid::regclass, k.conrelid::regclass)
      from pg_constraint k
      where k.contype = 'f' and k.conparentid = 0
        and ((k.conrelid = p_table and (p_attribute is null or p_attribute <> all (k.conkey))
              and rowhouse.holds_tenants(k.confrelid))
          or (k.confrelid = p_table and (p_attribute is null or p_attribute <> all (k.confkey))));
  return query
    select 'warning', 'foreign_key_changes_tenant', format('%I on %s', k.conname, k.conrelid::regclass),
        'its action would empty or change the tenant column, so it fails whenever it has something to do',
        'let it restrict or cascade, or from PostgreSQL 15 on: on delete set null (column, ...)'
      from pg_constraint k
      where k.contype = 'f' and k.conparentid = 0 and k.conrelid = p_table and p_attribute = any (k.conkey)
        and (k.confdeltype in ('n', 'd') and (k.confdelsetcols is null or p_attribute = any (k.confdelsetcols))
          or k.confupdtype in ('n', 'd'));
end
$$;

comment on function rowhouse.key_findings(regclass, smallint, name, regclass[]) is
  'Findings on keys and foreign keys, which are checked without policies.';

create or replace function rowhouse.reader_findings(p_table regclass, p_relations regclass[])
  returns table (level text, kind text, object text, detail text, mend text)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- P18, P22: views read with the rights of their owner.
  return query
    select case when c.relkind = 'm' or o.rolsuper or o.rolbypassrls then 'error' else 'warning' end,
        case c.relkind when 'm' then 'materialized_view' else 'view_of_owner' end, c.oid::regclass::text,
        case when c.relkind = 'm' then 'holds rows of all tenants, and row-level security does not exist for materialized views'
          when o.rolsuper or o.rolbypassrls then format('reads the table with the rights of %I, for whom row-level security does not hold', o.rolname)
          else format('reads the table with the rights of %I, not of the tenant who asks', o.rolname) end,
        case c.relkind
          when 'm' then format('revoke all on %s from public, rowhouse_app', c.oid::regclass)
          else format('alter view %s set (security_invoker = true)', c.oid::regclass) end
      from rowhouse.views_on(p_relations) v (oid)
      join pg_class c on c.oid = v.oid
      join pg_roles o on o.oid = c.relowner
      where c.relkind = 'm'
        or not coalesce((select x.option_value::boolean from pg_options_to_table(c.reloptions) x
              where x.option_name = 'security_invoker'), false);

  -- P19: functions that run with the rights of an owner whom policies don't hold.
  return query
    select 'error', 'function_of_exempt_owner', p.oid::regprocedure::text,
        format('runs with the rights of %I, for whom row-level security does not hold, and mentions %I', o.rolname, c.relname),
        format('alter function %s security invoker', p.oid::regprocedure)
      from pg_class c
      join pg_proc p on p.prosecdef
        and coalesce(pg_get_function_sqlbody(p.oid), p.prosrc) ~* ('\y' || regexp_replace(c.relname::text, '(\W)', '\\\1', 'g') || '\y')
      join pg_roles o on o.oid = p.proowner and (o.rolsuper or o.rolbypassrls)
      where c.oid = p_table and p.pronamespace <> 'pg_catalog'::regnamespace;

  -- P42: a subscriber receives the rows of all tenants.
  return query
    select 'warning', 'publication', quote_ident(p.pubname),
        'subscribers receive the rows of every tenant, unless the publication filters them',
        format('alter publication %I set table %s where (...)', p.pubname, p_table)
      from pg_publication p
      where p.puballtables
        or exists (select from pg_publication_rel r where r.prpubid = p.oid and r.prrelid = any (p_relations))
        or exists (select from pg_publication_namespace n join pg_class c on c.relnamespace = n.pnnspid
          where n.pnpubid = p.oid and c.oid = any (p_relations));

  -- P36: a sequence shows how much all tenants together write.
  return query
    select 'info', 'shared_sequence', s.oid::regclass::text,
        'its numbers tell a tenant how many rows all tenants together insert',
        'use uuid keys where that matters'
      from pg_depend d join pg_class s on s.oid = d.objid and s.relkind = 'S'
      where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = p_table
        and d.deptype in ('a', 'i');

  -- P23: what read all rows until now reads none without a tenant.
  return query
    select 'info', 'role_needs_tenant', quote_ident(r.rolname),
        'has read this table without a tenant; from now on it sees the rows of the tenant set in app.tenant_id, and none without one',
        'run reports and migrations over all tenants with forEachTenant, or tenant by tenant'
      from pg_class c
      join pg_roles r on r.oid in (
        select a.grantee from aclexplode(c.relacl) a where a.privilege_type in ('SELECT', 'UPDATE', 'DELETE'))
      where c.oid = p_table and not r.rolsuper and not r.rolbypassrls and not pg_has_role(r.oid, c.relowner, 'member')
        and r.rolname not in ('rowhouse_owner', 'rowhouse_app', 'rowhouse_admin');
end
$$;

comment on function rowhouse.reader_findings(regclass, regclass[]) is
  'Findings on what reads the table with other rights than those of the tenant who asks.';

create or replace function rowhouse.policy_findings(p_table regclass, p_column name, p_relations regclass[])
  returns table (level text, kind text, object text, detail text, mend text)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- P24: other permissive policies widen what a role sees, were it not for the restrictive one.
  return query
    select 'warning', 'permissive_policy', format('%I on %s', p.polname, p.polrelid::regclass),
        'allows more rows to whoever it applies to; rowhouse_isolation keeps that inside the tenant',
        format('drop policy %I on %s, if it was meant to separate tenants', p.polname, p.polrelid::regclass)
      from pg_policy p
      where p.polrelid = any (p_relations) and p.polpermissive and p.polname <> 'rowhouse_tenant';

  -- P18 of the users: an erasure that deletes nothing, because a policy hides the rows.
  return query
    select 'error', 'policy_hides_rows_from_erasure', format('%I on %s', h.policy, p_table),
        'holds for rowhouse_owner too, so an erasure would not see all rows of a tenant; it is refused until then',
        format('alter policy %I on %s to rowhouse_app', h.policy, p_table)
      from rowhouse.hiding_policies(p_table) h;

  -- P26: these privileges are not subject to policies. Who may act as the owner has them anyway.
  return query
    select 'error', 'privilege_around_policies',
        format('%s on %s', string_agg(a.privilege_type, ', ' order by a.privilege_type), c.oid::regclass),
        format('%s may use it on rows of every tenant', g.grantee),
        format('revoke %s on %s from %s', string_agg(a.privilege_type, ', ' order by a.privilege_type), c.oid::regclass, g.grantee)
      from pg_class c
      cross join aclexplode(c.relacl) a
      cross join lateral (select case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end as grantee) g
      where c.oid = any (p_relations) and a.privilege_type in ('TRUNCATE', 'REFERENCES', 'TRIGGER')
        and case when a.grantee = 0 then true else not pg_has_role(a.grantee, c.relowner, 'member') end
      group by c.oid, g.grantee;
  return query
    select 'warning', 'tenant_updatable', format('%s on %s', p_column, p_table),
        'public may update it; a policy keeps rows in their tenant all the same',
        format('revoke update on %s from public', p_table)
      from pg_class c, aclexplode(c.relacl) a
      where c.oid = p_table and a.grantee = 0 and a.privilege_type = 'UPDATE';

  -- P17: partitions are tables of their own.
  return query
    select 'error', 'privilege_on_partition', c.oid::regclass::text,
        format('%s may use the partition directly',
          case a.grantee when 0 then 'public' else pg_get_userbyid(a.grantee)::text end),
        format('revoke all on %s from %s', c.oid::regclass,
          case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end)
      from pg_class c, aclexplode(c.relacl) a
      where c.oid = any (p_relations) and c.oid <> p_table and a.grantee <> c.relowner
      group by c.oid, a.grantee;
  return query
    select 'warning', 'future_partitions', p_table::text,
        'a partition that is created or attached later has no policies until the table is protected again',
        format('select rowhouse.protect_table(%L)', p_table)
      from pg_class c
      where c.oid = p_table and c.relkind = 'p' and not rowhouse.is_laid_out(p_table);

  -- A rule rewrites a statement before policies see it.
  return query
    select 'warning', 'rule', format('%I on %s', r.rulename, r.ev_class::regclass),
        'rewrites statements on the table before policies are applied', format('drop rule %I on %s', r.rulename, r.ev_class::regclass)
      from pg_rewrite r where r.ev_class = any (p_relations) and r.rulename <> '_RETURN';
end
$$;

comment on function rowhouse.policy_findings(regclass, name, regclass[]) is
  'Findings on policies, rules and privileges that work against those of rowhouse.';

create or replace function rowhouse.protection_findings(p_table regclass, p_column name)
  returns table (level text, kind text, object text, detail text, mend text)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_attribute smallint;
  v_relations regclass[];
begin
  select a.attnum into v_attribute from pg_attribute a where a.attrelid = p_table and a.attname = p_column;
  select coalesce(array_agg(t.relid), array[p_table]) into v_relations from pg_partition_tree(p_table) t;
  return query select * from rowhouse.key_findings(p_table, v_attribute, p_column, v_relations);
  return query select * from rowhouse.reader_findings(p_table, v_relations);
  return query select * from rowhouse.policy_findings(p_table, p_column, v_relations);
end
$$;

comment on function rowhouse.protection_findings(regclass, name) is
  'What row-level security on this table cannot make safe, one row for each finding, with the statement that mends it. error: leaks between tenants, or keeps a tenant from being erased; warning: may leak or fail; info: good to know.';

revoke execute on function
  rowhouse.holds_tenants(regclass), rowhouse.views_on(regclass[]), rowhouse.protection_findings(regclass, name),
  rowhouse.key_findings(regclass, smallint, name, regclass[]), rowhouse.reader_findings(regclass, regclass[]),
  rowhouse.policy_findings(regclass, name, regclass[])
  from public;
grant execute on function
  rowhouse.holds_tenants(regclass), rowhouse.views_on(regclass[]), rowhouse.protection_findings(regclass, name),
  rowhouse.key_findings(regclass, smallint, name, regclass[]), rowhouse.reader_findings(regclass, regclass[]),
  rowhouse.policy_findings(regclass, name, regclass[])
  to rowhouse_admin;
