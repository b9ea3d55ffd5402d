-- Policies: the two row-level security policies that every tenant table and each of its partitions carry.
--
-- Both hold the same expression. Postgres keeps identical conditions once, so the restrictive one costs nothing; it is
-- there because permissive policies are joined by OR: a careless `using (true)` of somebody else opens nothing.
-- Depends on: context.sql. Proven by: test/isolation/p17, p24, p25.

create or replace function rowhouse.tenant_condition(p_column name, p_type regtype) returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  if p_type = any (array['text', 'character varying']::regtype[]) then
    return format('%I = current_setting(''app.tenant_id'', true)', p_column);
  elsif p_type = any (array['uuid', 'integer', 'bigint']::regtype[]) then
    return format('%I = nullif(current_setting(''app.tenant_id'', true), '''')::%s', p_column, p_type);
  end if;
  raise exception using errcode = 'RH010',
    message = format('column %I has type %s, which cannot hold a tenant id', p_column, p_type),
    hint = 'Use text, character varying, uuid, integer or bigint.';
end
$$;

comment on function rowhouse.tenant_condition(name, regtype) is
  'The expression of both policies for a tenant column of this type: a plain stable comparison, so that it is an index condition and prunes partitions.';

create or replace function rowhouse.tenant_default(p_type regtype) returns text
  language sql immutable parallel safe
  return case
    when p_type = any (array['text', 'character varying']::regtype[]) then 'rowhouse.require_tenant()'
    else format('rowhouse.require_tenant()::%s', p_type)
  end;

comment on function rowhouse.tenant_default(regtype) is 'The default expression of a tenant column of this type.';

create or replace function rowhouse.tenant_literal(p_tenant text, p_type regtype) returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_value text;
begin
  execute format('select %L::%s::text', p_tenant, p_type) into v_value;
  return format('%L::%s', v_value, p_type);
exception
  -- A tenant whose id is no value of this type has no row in such a table.
  when invalid_text_representation or numeric_value_out_of_range then
    return null;
end
$$;

comment on function rowhouse.tenant_literal(text, regtype) is
  'The tenant id as an SQL literal of this type; null when the id is no value of it, so that no row can be this tenant''s.';

create or replace function rowhouse.has_tenant_policy(
  p_relation regclass, p_policy name, p_permissive boolean, p_column name, p_type regtype
) returns boolean
  language plpgsql stable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_expected text := case
    when p_type = 'text'::regtype then format('(%I = current_setting(''app.tenant_id''::text, true))', p_column)
    when p_type = 'character varying'::regtype then
      format('((%I)::text = current_setting(''app.tenant_id''::text, true))', p_column)
    else format('(%I = (NULLIF(current_setting(''app.tenant_id''::text, true), ''''::text))::%s)', p_column, p_type)
  end;
begin
  return exists (
    select from pg_policy p
      where p.polrelid = p_relation and p.polname = p_policy and p.polpermissive = p_permissive
        and p.polcmd = '*' and p.polroles = array[0::oid]
        and pg_get_expr(p.polqual, p.polrelid) = v_expected
        and pg_get_expr(p.polwithcheck, p.polrelid) = v_expected);
end
$$;

comment on function rowhouse.has_tenant_policy(regclass, name, boolean, name, regtype) is
  'Whether the relation carries this policy exactly as rowhouse writes it.';

create or replace function rowhouse.policy_statements(p_relation regclass, p_column name, p_type regtype)
  returns setof text
  language plpgsql stable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_condition text := rowhouse.tenant_condition(p_column, p_type);
  v_class pg_class;
  v_policy record;
begin
  select c.* into v_class from pg_class c where c.oid = p_relation;
  if not (v_class.relrowsecurity and v_class.relforcerowsecurity) then
    return next format('alter table %s enable row level security, force row level security', p_relation);
  end if;
  for v_policy in
    select * from (values ('rowhouse_tenant'::name, true), ('rowhouse_isolation', false)) p (name, permissive)
  loop
    continue when rowhouse.has_tenant_policy(p_relation, v_policy.name, v_policy.permissive, p_column, p_type);
    if exists (select from pg_policy p where p.polrelid = p_relation and p.polname = v_policy.name) then
      return next format('drop policy %I on %s', v_policy.name, p_relation);
    end if;
    return next format('create policy %I on %s as %s for all to public using (%s) with check (%s)',
      v_policy.name, p_relation, case when v_policy.permissive then 'permissive' else 'restrictive' end,
      v_condition, v_condition);
    return next format('comment on policy %I on %s is %L', v_policy.name, p_relation,
      case when v_policy.permissive
        then 'A tenant sees and writes its own rows.'
        else 'Whatever other policies allow: only rows of the tenant of the transaction.' end);
  end loop;
end
$$;

comment on function rowhouse.policy_statements(regclass, name, regtype) is
  'The statements still missing until row-level security of this relation is enabled, forced and carries both policies; no row when nothing is missing.';

create or replace function rowhouse.secure_partition(p_partition regclass, p_column name, p_type regtype) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_statement text;
begin
  for v_statement in select * from rowhouse.policy_statements(p_partition, p_column, p_type) loop
    execute v_statement;
  end loop;
  -- A policy of the parent does not hold for a query that names the partition; without privileges nobody can name it.
  execute format('revoke all on %s from public, rowhouse_app, rowhouse_admin', p_partition);
end
$$;

comment on function rowhouse.secure_partition(regclass, name, regtype) is
  'Gives a partition the policies of its table and takes every privilege on it away.';

revoke execute on function
  rowhouse.tenant_condition(name, regtype), rowhouse.tenant_default(regtype), rowhouse.tenant_literal(text, regtype),
  rowhouse.has_tenant_policy(regclass, name, boolean, name, regtype),
  rowhouse.policy_statements(regclass, name, regtype), rowhouse.secure_partition(regclass, name, regtype)
  from public;
grant execute on function
  rowhouse.tenant_condition(name, regtype), rowhouse.tenant_default(regtype), rowhouse.tenant_literal(text, regtype),
  rowhouse.has_tenant_policy(regclass, name, boolean, name, regtype),
  rowhouse.policy_statements(regclass, name, regtype), rowhouse.secure_partition(regclass, name, regtype)
  to rowhouse_admin;
