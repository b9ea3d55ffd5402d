-- Policies: the two row-level security policies that every tenant table and each of its partitions carry.
--
-- Both hold the same expression. Postgres keeps identical conditions once, so the restrictive one costs nothing; it is
-- there because permissive policies are joined by OR: a careless `using (true)` of somebody else opens nothing.
-- Depends on: context.sql. Proven by: test/isolation/p17, p24, p25, tenant-aliases.

create or replace function rowhouse.tenant_condition(p_column name, p_type regtype) returns text
  language plpgsql stable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  if p_type = any (array['text', 'character varying', 'uuid', 'integer', 'bigint']::regtype[]) and rowhouse.seals_required() then
    -- In a sub-select: a function that must be called once for each statement, and whose answer must not change in it.
    return format('%I = (select %s())', p_column, rowhouse.sealed_tenant_function(p_type));
  elsif p_type = any (array['text', 'character varying']::regtype[]) then
    -- Without a tenant the setting reads '' on a connection that was used before: null keeps every row out, a comparison
    -- with '' would need a check on every row, which Postgres reads again for every statement.
    return format('%I = nullif(current_setting(''app.tenant_id'', true), '''')', p_column);
  elsif p_type = any (array['uuid', 'integer', 'bigint']::regtype[]) then
    -- Casts accept several spellings of one value: 7, 07 and from 16 on 0x7; a UUID in capitals. Tenant 07 must not be
    -- tenant 7, so only the spelling that Postgres prints stands for the value.
    return format('%1$I = case when nullif(current_setting(''app.tenant_id'', true), '''')::%2$s::text'
      ' = current_setting(''app.tenant_id'', true) then nullif(current_setting(''app.tenant_id'', true), '''')::%2$s end',
      p_column, p_type);
  end if;
  raise exception using errcode = 'RH010',
    message = format('column %I has type %s, which cannot hold a tenant id', p_column, p_type),
    hint = 'Use text, character varying, uuid, integer or bigint.';
end
$$;

comment on function rowhouse.tenant_condition(name, regtype) is
  'The expression of both policies for a tenant column of this type: a stable comparison, so that it is an index condition and prunes partitions. An id is a number or a UUID only in the spelling that Postgres prints. Where seals are required, the comparison is with the sealed tenant.';

create or replace function rowhouse.sealed_tenant_function(p_type regtype) returns text
  language sql immutable parallel safe
  return case p_type
    when 'uuid'::regtype then 'rowhouse.sealed_tenant_uuid'
    when 'integer'::regtype then 'rowhouse.sealed_tenant_bigint'
    when 'bigint'::regtype then 'rowhouse.sealed_tenant_bigint'
    else 'rowhouse.sealed_tenant'
  end;

comment on function rowhouse.sealed_tenant_function(regtype) is
  'Name of the function that policies compare a tenant column of this type with, where seals are required.';

create or replace function rowhouse.tenant_column_type(p_relation regclass, p_column name) returns regtype
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_column record;
  v_type oid;
begin
  select a.atttypid, a.attgenerated <> '' or a.attidentity <> '' as computed, coalesce(c.collisdeterministic, true) as deterministic
    into v_column
    from pg_attribute a left join pg_collation c on c.oid = a.attcollation
    where a.attrelid = p_relation and a.attname = p_column and a.attnum > 0 and not a.attisdropped;
  if v_column.atttypid is null then
    return null;
  end if;
  if v_column.computed then
    raise exception using errcode = 'RH010',
      message = format('column %I of %s gets its value from Postgres, so it cannot hold the tenant of the transaction', p_column, p_relation);
  end if;
  -- acme and ACME are two tenants.
  if not v_column.deterministic then
    raise exception using errcode = 'RH010',
      message = format('column %I of %s has a collation that takes different tenant ids for the same', p_column, p_relation),
      hint = format('alter table %s alter column %I type text collate "C"', p_relation, p_column);
  end if;
  v_type := v_column.atttypid;
  while (select t.typtype from pg_type t where t.oid = v_type) = 'd' loop
    select t.typbasetype into v_type from pg_type t where t.oid = v_type;
  end loop;
  perform rowhouse.tenant_condition(p_column, v_type::regtype);
  return v_type::regtype;
end
$$;

comment on function rowhouse.tenant_column_type(regclass, name) is
  'The type of a tenant column, for a domain the type beneath; null when there is no such column. Raises RH010 when it cannot hold tenant ids.';

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
  -- Another spelling of the value is another tenant: erasing 07 must not erase 7.
  return case when v_value = p_tenant then format('%L::%s', v_value, p_type) end;
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
  -- As Postgres prints it: a column of another type, or of a domain, is cast to the type that it is compared as.
  v_compared regtype := case when p_type = 'character varying'::regtype then 'text' else p_type end;
  v_column text := case
    when (select a.atttypid from pg_attribute a where a.attrelid = p_relation and a.attname = p_column) = v_compared
      then quote_ident(p_column)
    else format('(%I)::%s', p_column, v_compared)
  end;
  v_expected text := case
    when rowhouse.seals_required() then format('(%s = ( SELECT %2$s() AS %3$s))', v_column,
      rowhouse.sealed_tenant_function(v_compared), split_part(rowhouse.sealed_tenant_function(v_compared), '.', 2))
    when v_compared = 'text'::regtype then format('(%s = NULLIF(current_setting(''app.tenant_id''::text, true), ''''::text))', v_column)
    else format('(%1$s = CASE WHEN (((NULLIF(current_setting(''app.tenant_id''::text, true), ''''::text))::%2$s)::text'
      ' = current_setting(''app.tenant_id''::text, true))'
      ' THEN (NULLIF(current_setting(''app.tenant_id''::text, true), ''''::text))::%2$s ELSE NULL::%2$s END)', v_column, p_type)
  end;
begin
  return exists (
    select from pg_policy p
      where p.polrelid = p_relation and p.polname = p_policy and p.polpermissive = p_permissive
        and p.polcmd = '*' and p.polroles = array[0::oid]
        -- Postgres prints a case over several lines.
        and regexp_replace(pg_get_expr(p.polqual, p.polrelid), '\s+', ' ', 'g') = regexp_replace(v_expected, '\s+', ' ', 'g')
        and regexp_replace(pg_get_expr(p.polwithcheck, p.polrelid), '\s+', ' ', 'g') = regexp_replace(v_expected, '\s+', ' ', 'g'));
end
$$;

comment on function rowhouse.has_tenant_policy(regclass, name, boolean, name, regtype) is
  'Whether the relation carries this policy exactly as rowhouse writes it.';

create or replace function rowhouse.has_write_guard(p_relation regclass) returns boolean
  language plpgsql stable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- 30: before insert, update and delete, for each statement.
  return exists (
    select from pg_trigger t
      where t.tgrelid = p_relation and t.tgname = 'rowhouse_guard' and t.tgfoid = 'rowhouse.guard_tenant_write'::regproc
        and t.tgenabled in ('O', 'A') and t.tgtype = 30 and t.tgqual is null);
end
$$;

comment on function rowhouse.has_write_guard(regclass) is
  'Whether every write to the table passes the trigger that makes writers and erasure of one tenant exclude each other.';

create or replace function rowhouse.is_written_by_functions_only(p_relation regclass) returns boolean
  language plpgsql stable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (
    select from pg_class c
      where c.oid = p_relation and c.relnamespace = 'rowhouse'::regnamespace and c.relowner = 'rowhouse_owner'::regrole
        and not exists (
          select from aclexplode(c.relacl) a where a.grantee <> c.relowner and a.privilege_type in ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE'))
        and not exists (
          select from pg_attribute t, aclexplode(t.attacl) a
            where t.attrelid = c.oid and a.grantee <> c.relowner and a.privilege_type in ('INSERT', 'UPDATE')));
end
$$;

comment on function rowhouse.is_written_by_functions_only(regclass) is
  'Whether nobody but the functions of rowhouse may write to the table: they do the work of the write guard themselves, once a call (enter_tenant_write, hold_tenant).';

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
  -- Last: enabled without policies, the table would look empty.
  if not (v_class.relrowsecurity and v_class.relforcerowsecurity) then
    return next format('alter table %s enable row level security, force row level security', p_relation);
  end if;
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
  v_grantee oid;
begin
  for v_statement in select * from rowhouse.policy_statements(p_partition, p_column, p_type) loop
    execute v_statement;
  end loop;
  -- A policy of the parent does not hold for a query that names the partition; without privileges nobody can name it.
  -- Default privileges may have granted some.
  for v_grantee in
    select distinct a.grantee from pg_class c, aclexplode(c.relacl) a where c.oid = p_partition and a.grantee <> c.relowner
  loop
    execute format('revoke all on %s from %s', p_partition,
      case v_grantee when 0 then 'public' else quote_ident(pg_get_userbyid(v_grantee)) end);
  end loop;
end
$$;

comment on function rowhouse.secure_partition(regclass, name, regtype) is
  'Gives a partition the policies of its table and takes every privilege on it away.';

create or replace function rowhouse.search_path_for(p_tables regclass[]) returns text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- Not a schema in which everybody may create: what anybody planted there would run with the rights of rowhouse.
  return (
    select concat_ws(', ', 'pg_catalog', string_agg(quote_ident(s.nspname), ', ' order by s.place, s.nspname), 'pg_temp')
      from (
        select n.nspname, min(case when n.oid = c.relnamespace then 1 else 2 end) as place
          from pg_class c
          join pg_namespace n on n.oid = c.relnamespace or n.nspname = 'public'
          where c.oid = any (p_tables) and n.nspname <> 'pg_catalog'
            and not exists (select from aclexplode(n.nspacl) a where a.grantee = 0 and a.privilege_type = 'CREATE')
          group by n.nspname) s);
end
$$;

comment on function rowhouse.search_path_for(regclass[]) is
  'The search path for statements that fire triggers of the user''s on these tables: triggers, checks and generated columns call functions by bare names, so the schemas of the tables and public are in it.';

create or replace function rowhouse.execute_for(p_table regclass, p_statement text) returns bigint
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_rows bigint;
begin
  execute format('set local search_path = %s', rowhouse.search_path_for(array[p_table]));
  execute p_statement;
  get diagnostics v_rows = row_count;
  return v_rows;
end
$$;

comment on function rowhouse.execute_for(regclass, text) is
  'Runs a statement on this table with its search_path_for, and returns the number of rows. Objects that the statement itself names are named with their schema.';

revoke execute on function
  rowhouse.is_written_by_functions_only(regclass), rowhouse.tenant_condition(name, regtype), rowhouse.sealed_tenant_function(regtype), rowhouse.tenant_default(regtype), rowhouse.tenant_literal(text, regtype),
  rowhouse.has_tenant_policy(regclass, name, boolean, name, regtype), rowhouse.has_write_guard(regclass),
  rowhouse.policy_statements(regclass, name, regtype), rowhouse.secure_partition(regclass, name, regtype),
  rowhouse.tenant_column_type(regclass, name), rowhouse.search_path_for(regclass[]), rowhouse.execute_for(regclass, text)
  from public;
grant execute on function
  rowhouse.is_written_by_functions_only(regclass), rowhouse.tenant_condition(name, regtype), rowhouse.sealed_tenant_function(regtype), rowhouse.tenant_default(regtype), rowhouse.tenant_literal(text, regtype),
  rowhouse.has_tenant_policy(regclass, name, boolean, name, regtype), rowhouse.has_write_guard(regclass),
  rowhouse.policy_statements(regclass, name, regtype), rowhouse.secure_partition(regclass, name, regtype),
  rowhouse.tenant_column_type(regclass, name), rowhouse.search_path_for(regclass[]), rowhouse.execute_for(regclass, text)
  to rowhouse_admin;
