-- What must hold before a tenant can be erased: every table that may hold its rows is known, and shows them.
--
-- An erasure that cannot see a row would report that none is left. So it fails closed: on tables that are not
-- registered, on tables that it may not read, and on policies that would hide rows from it.
-- Depends on: policies.sql. Proven by: test/erase/fail-closed.test.ts.

create or replace function rowhouse.hiding_policies(p_table regclass) returns table (policy name)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select p.polname from pg_policy p
      where p.polrelid = p_table and not p.polpermissive and p.polname <> 'rowhouse_isolation'
        and p.polcmd in ('*', 'r', 'd')
        and exists (select from unnest(p.polroles) r (role) where case when r.role = 0 then true else pg_has_role('rowhouse_owner', r.role, 'usage') end);
end
$$;

comment on function rowhouse.hiding_policies(regclass) is
  'Restrictive policies of somebody else that hold for rowhouse_owner, and so could hide rows from an erasure.';

create or replace function rowhouse.tenant_tables(p_tenant text)
  returns table (relation regclass, condition text, readable boolean, registered boolean)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- Every table with a tenant column, registered or not: the registry alone would believe itself.
  return query
    with columns as (
      select 'tenant_id'::name as name union select p.tenant_column from rowhouse.protected_tables p
    )
    -- Not format where the literal may be null: it would make a condition without a value of null.
    select c.oid::regclass,
        case when p.relation is not null then quote_ident(a.attname) || ' = ' || rowhouse.tenant_literal(p_tenant, p.column_type)
          when a.atttypid = any (array['text', 'character varying', 'uuid', 'integer', 'bigint']::regtype[])
            then quote_ident(a.attname) || ' = ' || rowhouse.tenant_literal(p_tenant, a.atttypid::regtype)
          else format('%I::text = %L', a.attname, p_tenant) end,
        has_schema_privilege(c.relnamespace, 'usage') and has_table_privilege(c.oid, 'select'),
        p.relation is not null
      from pg_class c
      join pg_namespace n on n.oid = c.relnamespace
      join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      left join rowhouse.protected_tables p on p.relation = c.oid
      where c.relkind in ('r', 'p', 'm', 'f') and not c.relispartition and c.relpersistence <> 't'
        and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname not like 'pg\_toast%'
        and (p.tenant_column = a.attname or (p.relation is null and a.attname in (select k.name from columns k)))
        and not exists (select from rowhouse.exempt_tables e where e.relation = c.oid)
        and (n.nspname <> 'rowhouse' or p.relation is not null)
        -- What a demotion detached is moved back before an erasure, and holds rows of that tenant only.
        and n.nspname not in (select t.partition_schema from rowhouse.tenants t where t.partition_schema is not null);
end
$$;

comment on function rowhouse.tenant_tables(text) is
  'Every table and materialized view of the database that could hold rows of the tenant, with the condition that selects them (null: the id is no value of the column type), whether rowhouse may read it, and whether it is registered. Exempt tables and the registries of rowhouse are left out.';

create or replace function rowhouse.count_unregistered_rows(p_relation regclass, p_condition text) returns bigint
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  -- Policies of somebody else would hide rows: with this setting the query fails instead.
  set row_security = off
as $$
declare
  v_rows bigint;
begin
  execute format('select count(*) from %s where %s', p_relation, p_condition) into v_rows;
  return v_rows;
exception
  -- A foreign server may answer with anything, and a table that was dropped meanwhile has no name.
  when insufficient_privilege or sqlstate 'HV000' or connection_exception or object_not_in_prerequisite_state
      or undefined_table or syntax_error then
    return null;
end
$$;

comment on function rowhouse.count_unregistered_rows(regclass, text) is
  'Counts rows of a table that rowhouse does not protect; null when it cannot, or when policies would hide some.';

create or replace function rowhouse.unregistered_obstacles(p_tenant text) returns table (message text, hint text)
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_table record;
  v_rows bigint;
begin
  for v_table in select * from rowhouse.tenant_tables(p_tenant) t where not t.registered order by t.relation::text loop
    continue when v_table.condition is null;
    v_rows := case when v_table.readable then rowhouse.count_unregistered_rows(v_table.relation, v_table.condition) end;
    -- Registered or dropped since this began: no row of it, or the registry tells.
    continue when v_rows is null and (
      exists (select from rowhouse.protected_tables p where p.relation = v_table.relation)
      or not exists (select from pg_class c where c.oid = v_table.relation));
    if v_rows is null then
      message := format('table %s has a tenant column, is not registered and cannot be read, so it may hold rows of the tenant', v_table.relation);
      hint := format('select rowhouse.protect_table(%L), or declare that it holds nothing of tenants: select rowhouse.exempt_table(%L, ''<reason>'')', v_table.relation, v_table.relation);
      return next;
    elsif v_rows > 0 then
      message := format('table %s holds %s rows of the tenant and is not registered', v_table.relation, v_rows);
      hint := format('select rowhouse.protect_table(%L), or delete those rows, or declare that they stay: select rowhouse.exempt_table(%L, ''<reason>'')', v_table.relation, v_table.relation);
      return next;
    end if;
  end loop;
end
$$;

comment on function rowhouse.unregistered_obstacles(text) is
  'Tables that are not registered and hold rows of the tenant, or may and cannot be read.';

create or replace function rowhouse.registered_obstacles() returns table (message text, hint text)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_table record;
  v_policy name;
  v_type regtype;
begin
  for v_table in
    select p.*, c.relkind from rowhouse.protected_tables p join pg_class c on c.oid = p.relation order by p.relation::text
  loop
    hint := format('select rowhouse.protect_table(%L)', v_table.relation);
    begin
      v_type := rowhouse.tenant_column_type(v_table.relation, v_table.tenant_column);
    exception
      -- It was replaced by one that cannot hold tenants.
      when sqlstate 'RH010' then
        v_type := null;
    end;
    if v_type is distinct from v_table.column_type then
      message := format('table %s has no column %I of type %s any more', v_table.relation, v_table.tenant_column, v_table.column_type);
      hint := format('Protect it again with the tenant column that it has now: select rowhouse.protect_table(%L, ''<column>'').', v_table.relation);
      return next;
    elsif not (has_schema_privilege((select c.relnamespace from pg_class c where c.oid = v_table.relation), 'usage')
        and has_table_privilege(v_table.relation, 'select') and has_table_privilege(v_table.relation, 'delete')) then
      message := format('rowhouse_owner may not read and delete rows of table %s', v_table.relation);
      return next;
    elsif not rowhouse.has_write_guard(v_table.relation)
        and not rowhouse.is_written_by_functions_only(v_table.relation) then
      message := format('the write guard of table %s is missing, so rows of the tenant could be written during the erasure', v_table.relation);
      return next;
    elsif row_security_active(v_table.relation) then
      if not rowhouse.has_tenant_policy(v_table.relation, 'rowhouse_tenant', true, v_table.tenant_column, v_type)
          or exists (select from pg_policy p where p.polrelid = v_table.relation and p.polname = 'rowhouse_isolation')
            and not rowhouse.has_tenant_policy(v_table.relation, 'rowhouse_isolation', false, v_table.tenant_column, v_type) then
        message := format('the policies of table %s are not those of rowhouse any more, so rows may be hidden', v_table.relation);
        return next;
      end if;
      for v_policy in select h.policy from rowhouse.hiding_policies(v_table.relation) h loop
        message := format('policy %I on table %s may hide rows of the tenant from the erasure', v_policy, v_table.relation);
        hint := format('alter policy %I on %s to rowhouse_app', v_policy, v_table.relation);
        return next;
      end loop;
    end if;
  end loop;
end
$$;

comment on function rowhouse.registered_obstacles() is
  'Registered tables whose rows an erasure could not see or delete, or could not keep from being written. Asks for the rights of rowhouse_owner, so it runs inside functions of that owner.';

create or replace function rowhouse.erasure_obstacles(p_tenant text) returns table (message text, hint text)
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  return query select * from rowhouse.registered_obstacles();
  return query select * from rowhouse.unregistered_obstacles(p_tenant);
end
$$;

comment on function rowhouse.erasure_obstacles(text) is 'What keeps the tenant from being erased completely; no row when nothing does.';

create or replace function rowhouse.check_erasable(p_tenant text) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_obstacles record;
begin
  select array_agg(o.message) as messages, array_agg(o.hint) as hints into v_obstacles from rowhouse.erasure_obstacles(p_tenant) o;
  if v_obstacles.messages is not null then
    raise exception using errcode = 'RH030', message = v_obstacles.messages[1], hint = v_obstacles.hints[1],
      detail = array_to_string(v_obstacles.messages[2:], '; ');
  end if;
end
$$;

comment on function rowhouse.check_erasable(text) is 'Raises RH030 with the first obstacle as message and the others as detail.';

revoke execute on function
  rowhouse.hiding_policies(regclass), rowhouse.tenant_tables(text), rowhouse.count_unregistered_rows(regclass, text),
  rowhouse.unregistered_obstacles(text), rowhouse.registered_obstacles(), rowhouse.erasure_obstacles(text),
  rowhouse.check_erasable(text)
  from public;
grant execute on function rowhouse.hiding_policies(regclass) to rowhouse_admin;
