-- What the lints of sql/doctor share: which relations there are, who reaches them, what was shipped.
--
-- Depends on: protect_findings.sql, policies.sql. Proven by: test/doctor/lints.test.ts, drift.test.ts.

drop policy if exists owner_all on rowhouse.shipped_objects;
create policy owner_all on rowhouse.shipped_objects for all to rowhouse_owner using (true) with check (true);
comment on policy owner_all on rowhouse.shipped_objects is 'Written when the functions are applied.';
drop policy if exists operators_see_all on rowhouse.shipped_objects;
create policy operators_see_all on rowhouse.shipped_objects for select to rowhouse_admin using (true);
comment on policy operators_see_all on rowhouse.shipped_objects is 'Operators compare it with what there is.';
grant select on rowhouse.shipped_objects to rowhouse_admin;

create or replace function rowhouse.known_tables() returns table (name text, read_by_app boolean, reason text)
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  return query values
    ('rowhouse.tenants', true, 'a policy of its own shows a tenant its own row; only some columns, and nothing may be written'),
    ('rowhouse.protected_tables', true, 'names of tables and columns; read only'),
    ('rowhouse.applied_functions', true, 'versions of SQL files; read only'),
    ('rowhouse.collections', true, 'names and dimensions of collections; read only'),
    ('rowhouse.rate_limit_defaults', true, 'rate limits of tiers; read only'),
    ('rowhouse.prices', true, 'prices of models; read only'),
    ('rowhouse.quotas', true, 'what is counted; read only'),
    ('rowhouse.quota_defaults', true, 'limits of tiers; read only'),
    ('rowhouse.tier_models', true, 'models of tiers; read only'),
    ('rowhouse.circuit_rules', true, 'rules of tiers; read only'),
    ('rowhouse.shipped_objects', false, 'digests of the objects of rowhouse'),
    ('rowhouse.key_guesses', false, 'digests of where refused API keys came from, for a minute'),
    ('rowhouse.erasures', false, 'receipts, which name erased tenants; operators read them by a function'),
    ('rowhouse.audit_heads', false, 'digests of audit trails, which outlive them'),
    ('rowhouse.audit_pending', false, 'digests of audit trails, which outlive them'),
    ('rowhouse.audit_segments', false, 'digests of audit trails, which outlive them'),
    ('rowhouse.queue_tenants', false, 'how tenants stand to each other in queues; removed with the tenant'),
    ('rowhouse.queue_tickets', false, 'numbers of requests that wait; removed with the tenant'),
    ('rowhouse.audit_signatures', false, 'signatures of audit trails, which outlive them');
end
$$;

comment on function rowhouse.known_tables() is
  'Tables of rowhouse that span tenants or outlive them, whether the application reads them, and why that is safe.';

create or replace function rowhouse.qualified_name(p_relation oid) returns text
  language plpgsql stable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  return (select format('%I.%I', n.nspname, c.relname)
    from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = p_relation);
end
$$;

comment on function rowhouse.qualified_name(oid) is 'The name of a relation with its schema, quoted where needed.';

create or replace function rowhouse.tenant_relations()
  returns table (relation oid, relation_name text, root oid, root_name text, is_partition boolean, kind "char",
    enabled boolean, forced boolean, tenant_column name, column_type regtype)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select c.oid, format('%I.%I', n.nspname, c.relname), p.relation::oid, rowhouse.qualified_name(p.relation), c.oid <> p.relation,
        c.relkind, c.relrowsecurity, c.relforcerowsecurity, p.tenant_column, p.column_type
      from rowhouse.protected_tables p
      cross join lateral (select t.relid from pg_partition_tree(p.relation) t union select p.relation) t
      join pg_class c on c.oid = t.relid
      join pg_namespace n on n.oid = c.relnamespace;
end
$$;

comment on function rowhouse.tenant_relations() is 'Each protected table and each of its partitions.';

create or replace function rowhouse.reachable_relations(p_role name)
  returns table (relation oid, name text, schema text, kind "char", is_partition boolean, privileges text[])
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select c.oid, format('%I.%I', n.nspname, c.relname), n.nspname::text, c.relkind, c.relispartition, p.privileges
      from pg_class c
      join pg_namespace n on n.oid = c.relnamespace
      cross join lateral (
        select array_agg(distinct held.privilege order by held.privilege) as privileges from (
          select t.privilege from unnest(array['select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger']) t (privilege)
            where c.relkind <> 'S' and has_table_privilege(p_role, c.oid, t.privilege)
          union all
          select s.privilege from unnest(array['select', 'update', 'usage']) s (privilege)
            where c.relkind = 'S' and case when c.relkind = 'S' then has_sequence_privilege(p_role, c.oid, s.privilege) end
          union all
          select k.privilege from unnest(array['select', 'insert', 'update', 'references']) k (privilege)
            where c.relkind <> 'S' and has_any_column_privilege(p_role, c.oid, k.privilege)
        ) held
      ) p
      where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and p.privileges is not null
        and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast') and n.nspname not like 'pg\_temp\_%'
        and has_schema_privilege(p_role, n.oid, 'usage')
        and not exists (select from pg_depend d
          where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
      order by 2;
end
$$;

comment on function rowhouse.reachable_relations(name) is
  'Every relation outside the system catalogs and extensions on which the role has any privilege, also by way of PUBLIC, of a column or of another role.';

create or replace function rowhouse.current_objects() returns table (object text, digest text)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select 'function ' || p.oid::regprocedure, md5(concat_ws('|', coalesce(pg_get_function_sqlbody(p.oid), p.prosrc), p.proowner::regrole,
        p.prosecdef, p.provolatile, p.proleakproof, p.proparallel, p.proisstrict, array_to_string(p.proconfig, ','),
        pg_get_function_arguments(p.oid), pg_get_function_result(p.oid)))
      from pg_proc p where p.pronamespace = 'rowhouse'::regnamespace;
  -- Tables of collections come, change and go; policies of tenants are rewritten when seals are required, and looked at
  -- by a lint of their own.
  return query
    with tables as (
      select c.oid, c.relowner from pg_class c
        where c.relnamespace = 'rowhouse'::regnamespace and c.relkind in ('r', 'p', 'v')
          and c.oid not in (select l.relation from rowhouse.collections l union select l.parents from rowhouse.collections l)
    )
    select 'table ' || rowhouse.qualified_name(t.oid), md5(concat_ws('|', t.relowner::regrole,
        (select string_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated, a.attidentity,
            pg_get_expr(d.adbin, d.adrelid)), ',' order by a.attname)
          from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
          where a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped),
        (select string_agg(concat_ws(' ', k.conname, pg_get_constraintdef(k.oid), k.convalidated), ',' order by k.conname)
          -- From PostgreSQL 18 on, not null is a constraint too, with a name of its own making.
          from pg_constraint k where k.conrelid = t.oid and k.contype <> 'n'),
        (select string_agg(concat_ws(' ', g.tgname, pg_get_triggerdef(g.oid), g.tgenabled), ',' order by g.tgname)
          from pg_trigger g where g.tgrelid = t.oid and not g.tgisinternal),
        (select string_agg(concat_ws(' ', p.polname, p.polpermissive, p.polcmd,
            (select string_agg(r.rolname, ' ' order by r.rolname) from pg_roles r where r.oid = any (p.polroles)),
            case when p.polname <> 'tenant_own_row' then pg_get_expr(p.polqual, t.oid) end, pg_get_expr(p.polwithcheck, t.oid)), ',' order by p.polname)
          from pg_policy p where p.polrelid = t.oid and p.polname not in ('rowhouse_tenant', 'rowhouse_isolation')),
        (select pg_get_viewdef(t.oid) where exists (select from pg_class v where v.oid = t.oid and v.relkind = 'v'))))
      from tables t
    union all
    select 'domain rowhouse.' || d.typname, md5(concat_ws('|', d.typowner::regrole, format_type(d.typbasetype, d.typtypmod),
        (select string_agg(concat_ws(' ', k.conname, pg_get_constraintdef(k.oid), k.convalidated), ',' order by k.conname)
          from pg_constraint k where k.contypid = d.oid)))
      from pg_type d where d.typnamespace = 'rowhouse'::regnamespace and d.typtype = 'd'
    union all
    select 'index ' || rowhouse.qualified_name(i.indexrelid), md5(concat_ws('|', pg_get_indexdef(i.indexrelid), i.indisvalid))
      from pg_index i join tables t on t.oid = i.indrelid;
end
$$;

comment on function rowhouse.current_objects() is
  'Functions, tables, domains and indexes of the schema rowhouse as they are now, each with a digest of its definition. Not those of collections.';

create or replace function rowhouse.record_objects() returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  delete from rowhouse.shipped_objects;
  insert into rowhouse.shipped_objects (object, digest, server_version)
    select o.object, o.digest, current_setting('server_version_num')::integer / 10000 from rowhouse.current_objects() o;
end
$$;

comment on function rowhouse.record_objects() is 'Remembers the objects of rowhouse as they are; the last step of migrate.';

revoke execute on function rowhouse.known_tables(), rowhouse.qualified_name(oid), rowhouse.tenant_relations(),
  rowhouse.reachable_relations(name), rowhouse.current_objects(), rowhouse.record_objects() from public;
grant execute on function rowhouse.known_tables(), rowhouse.qualified_name(oid), rowhouse.tenant_relations(),
  rowhouse.reachable_relations(name), rowhouse.current_objects() to rowhouse_admin;
