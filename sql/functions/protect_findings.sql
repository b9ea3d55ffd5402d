-- Findings: what protecting a table cannot make safe, for its owner to decide.
--
-- Depends on: policies.sql. Proven by: test/protect/findings.test.ts.

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
  select array_agg(t.relid) into v_relations from pg_partition_tree(p_table) t;
  v_relations := coalesce(v_relations, array[p_table]);

  -- P29, P30: a tenant learns from an error, or from waiting, that another tenant has the same key.
  return query
    select 'error', 'key_without_tenant', format('%s on %s', c.relname, p_table),
        format('unique over all tenants: a tenant sees, by a conflict or by waiting, that another one has the same %s',
          (select string_agg(quote_ident(a.attname), ', ' order by array_position(i.indkey::smallint[], a.attnum))
            from pg_attribute a where a.attrelid = p_table and a.attnum = any (i.indkey::smallint[]))),
        case when k.conname is null
          then format('drop index %s; create unique index on %s (%I, ...)', i.indexrelid::regclass, p_table, p_column)
          else format('alter table %s drop constraint %I, add %s (%I, %s)', p_table, k.conname,
            case k.contype when 'p' then 'primary key' when 'u' then 'unique' else 'exclude' end, p_column,
            (select string_agg(quote_ident(a.attname), ', ' order by array_position(k.conkey, a.attnum))
              from pg_attribute a where a.attrelid = p_table and a.attnum = any (k.conkey)))
        end
      from pg_index i
      join pg_class c on c.oid = i.indexrelid
      left join pg_constraint k on k.conindid = i.indexrelid and k.conrelid = i.indrelid and k.contype in ('p', 'u', 'x')
      where i.indrelid = p_table and (i.indisunique or i.indisexclusion)
        and (v_attribute is null or v_attribute <> all (i.indkey::smallint[]));

  -- P31: a foreign key is checked without policies: it tells whether another tenant's row exists, and cascades into it.
  return query
    select 'error', 'foreign_key_without_tenant', format('%I on %s', k.conname, k.conrelid::regclass),
        format('refers from %s to %s without the tenant: it tells whether a row of another tenant exists%s',
          k.conrelid::regclass, k.confrelid::regclass,
          case when k.confdeltype = 'c' then ', and a delete cascades into another tenant' else '' end),
        format('make (tenant, id) the key of %s and let %s refer to both columns', k.confrelid::regclass, k.conrelid::regclass)
      from pg_constraint k
      where k.contype = 'f' and k.conparentid = 0
        and ((k.conrelid = p_table and (v_attribute is null or v_attribute <> all (k.conkey))
              and rowhouse.holds_tenants(k.confrelid))
          or (k.confrelid = p_table and (v_attribute is null or v_attribute <> all (k.confkey))));

  -- P18, P22: views read with the rights of their owner.
  return query
    select 'error', case c.relkind when 'm' then 'materialized_view' else 'view_of_owner' end, c.oid::regclass::text,
        case c.relkind
          when 'm' then 'holds rows of all tenants, and row-level security does not exist for materialized views'
          else 'reads the table with the rights of its owner, not of the tenant who asks' end,
        case c.relkind
          when 'm' then format('revoke all on %s from public, rowhouse_app', c.oid::regclass)
          else format('alter view %s set (security_invoker = true)', c.oid::regclass) end
      from pg_depend d
      join pg_rewrite r on r.oid = d.objid
      join pg_class c on c.oid = r.ev_class
      where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = any (v_relations)
        and c.oid <> all (v_relations)
        and (c.relkind = 'm'
          or not coalesce((select o.option_value::boolean from pg_options_to_table(c.reloptions) o
                where o.option_name = 'security_invoker'), false))
      group by c.oid, c.relkind;

  -- P19: functions that run with the rights of an owner whom policies don't hold.
  return query
    select 'error', 'function_of_exempt_owner', p.oid::regprocedure::text,
        format('runs with the rights of %I, for whom row-level security does not hold, and mentions %I', o.rolname, c.relname),
        format('alter function %s security invoker', p.oid::regprocedure)
      from pg_class c
      join pg_proc p on p.prosecdef and p.prosrc ~* ('\y' || regexp_replace(c.relname::text, '(\W)', '\\\1', 'g') || '\y')
      join pg_roles o on o.oid = p.proowner and (o.rolsuper or o.rolbypassrls)
      where c.oid = p_table and p.pronamespace <> 'pg_catalog'::regnamespace;

  -- P24: other permissive policies widen what a role sees, were it not for the restrictive one.
  return query
    select 'warning', 'permissive_policy', format('%I on %s', p.polname, p.polrelid::regclass),
        'allows more rows to whoever it applies to; rowhouse_isolation keeps that inside the tenant',
        format('drop policy %I on %s, if it was meant to separate tenants', p.polname, p.polrelid::regclass)
      from pg_policy p
      where p.polrelid = any (v_relations) and p.polpermissive and p.polname <> 'rowhouse_tenant';

  -- P26: these privileges are not subject to policies.
  return query
    select 'error', 'privilege_around_policies',
        format('%s on %s', string_agg(a.privilege_type, ', ' order by a.privilege_type), c.oid::regclass),
        format('%s may use it on rows of every tenant',
          case a.grantee when 0 then 'public' else pg_get_userbyid(a.grantee)::text end),
        format('revoke %s on %s from %s', string_agg(a.privilege_type, ', ' order by a.privilege_type), c.oid::regclass,
          case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end)
      from pg_class c, aclexplode(c.relacl) a
      where c.oid = any (v_relations) and a.grantee <> c.relowner
        and a.privilege_type in ('TRUNCATE', 'REFERENCES', 'TRIGGER')
      group by c.oid, a.grantee;

  -- P17: partitions are tables of their own.
  return query
    select 'error', 'privilege_on_partition', c.oid::regclass::text,
        format('%s may use the partition directly',
          case a.grantee when 0 then 'public' else pg_get_userbyid(a.grantee)::text end),
        format('revoke all on %s from %s', c.oid::regclass,
          case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end)
      from pg_class c, aclexplode(c.relacl) a
      where c.oid = any (v_relations) and c.oid <> p_table and a.grantee <> c.relowner
      group by c.oid, a.grantee;
  return query
    select 'warning', 'future_partitions', p_table::text,
        'a partition that is created or attached later has no policies until the table is protected again',
        format('select rowhouse.protect_table(%L)', p_table)
      from pg_class c
      where c.oid = p_table and c.relkind = 'p'
        and not exists (select from rowhouse.protected_tables t where t.relation = p_table and t.layout = 'partitioned');

  -- P36: a sequence shows how much all tenants together write.
  return query
    select 'info', 'shared_sequence', s.oid::regclass::text,
        'its numbers tell a tenant how many rows all tenants together insert',
        'use uuid keys where that matters'
      from pg_depend d join pg_class s on s.oid = d.objid and s.relkind = 'S'
      where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = p_table
        and d.deptype in ('a', 'i');

  -- P42: a subscriber receives the rows of all tenants.
  return query
    select 'warning', 'publication', quote_ident(p.pubname),
        'subscribers receive the rows of every tenant, unless the publication filters them',
        format('alter publication %I set table %s where (...)', p.pubname, p_table)
      from pg_publication p
      where p.puballtables
        or exists (select from pg_publication_rel r where r.prpubid = p.oid and r.prrelid = any (v_relations));

  -- A rule rewrites a statement before policies see it.
  return query
    select 'warning', 'rule', format('%I on %s', r.rulename, r.ev_class::regclass),
        'rewrites statements on the table before policies are applied', format('drop rule %I on %s', r.rulename, r.ev_class::regclass)
      from pg_rewrite r where r.ev_class = any (v_relations) and r.rulename <> '_RETURN';
end
$$;

comment on function rowhouse.protection_findings(regclass, name) is
  'What row-level security on this table cannot make safe, one row for each finding, with the statement that mends it. error: leaks between tenants; warning: may leak; info: tells volume.';

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

revoke execute on function rowhouse.protection_findings(regclass, name), rowhouse.holds_tenants(regclass) from public;
grant execute on function rowhouse.protection_findings(regclass, name), rowhouse.holds_tenants(regclass) to rowhouse_admin;
