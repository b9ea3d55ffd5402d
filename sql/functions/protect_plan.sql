-- The plan of a protection: the statements that are still missing until a table is protected, in order.
--
-- Each statement may run in a transaction of its own, and each leaves the table safe: policies are there before
-- row-level security is enabled, and the application gets privileges after that.
-- Depends on: policies.sql, layout.sql. Proven by: test/protect/plan.test.ts, shapes.test.ts, online.test.ts.

create or replace function rowhouse.check_protectable(p_table regclass) returns void
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_class pg_class;
  v_reason text;
  v_hint text;
begin
  select c.* into v_class from pg_class c where c.oid = p_table;
  if v_class.oid is null then
    v_reason := 'there is no such table';
  elsif v_class.relispartition then
    v_reason := 'it is a partition';
    v_hint := format('Protect its table: select rowhouse.protect_table(%L)', pg_partition_root(p_table));
  elsif v_class.relkind not in ('r', 'p') then
    v_reason := format('it is a %s, and row-level security exists for tables only',
      case v_class.relkind when 'v' then 'view' when 'm' then 'materialized view' when 'f' then 'foreign table'
        when 'S' then 'sequence' when 'i' then 'index' else 'relation of another kind' end);
  elsif v_class.relpersistence = 't' then
    v_reason := 'it is a temporary table';
  elsif v_class.relnamespace = any (array['pg_catalog', 'information_schema']::regnamespace[]) then
    v_reason := 'it is a table of the system';
  elsif p_table = any (array['rowhouse.tenants', 'rowhouse.protected_tables', 'rowhouse.exempt_tables', 'rowhouse.erasures',
      'rowhouse.collections', 'rowhouse.migrations', 'rowhouse.applied_functions']::regclass[]) then
    v_reason := 'it is a registry of rowhouse';
  elsif exists (select from pg_inherits i where i.inhrelid = p_table) then
    v_reason := 'it inherits from another table, through which its rows could be read';
  elsif v_class.relkind = 'r' and exists (select from pg_inherits i where i.inhparent = p_table) then
    v_reason := 'other tables inherit from it';
    v_hint := 'Use declarative partitioning.';
  elsif exists (select from pg_partition_tree(p_table) t join pg_class c on c.oid = t.relid where c.relkind = 'f') then
    v_reason := 'one of its partitions is a foreign table, for which row-level security does not exist';
  elsif not pg_has_role(current_user, v_class.relowner, 'usage') then
    raise exception using errcode = 'insufficient_privilege', message = format('must be owner of table %s', p_table),
      hint = format('Run it as %I.', pg_get_userbyid(v_class.relowner));
  else
    return;
  end if;
  raise exception using errcode = 'RH010', message = format('%s cannot be protected: %s', coalesce(p_table::text, 'the table'), v_reason),
    hint = coalesce(v_hint, '');
end
$$;

comment on function rowhouse.check_protectable(regclass) is 'Raises RH010 with the reason when a table cannot be protected.';

create or replace function rowhouse.check_owner_of_rows(p_tenant text, p_column name, p_type regtype) returns text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_status text;
  v_literal text;
begin
  perform rowhouse.check_tenant_id(p_tenant);
  select t.status into v_status from rowhouse.tenants t where t.tenant_id = p_tenant;
  if not rowhouse.tenant_is_here(v_status) then
    perform rowhouse.check_tenant_status(p_tenant, v_status);
  end if;
  v_literal := rowhouse.tenant_literal(p_tenant, p_type);
  if v_literal is null then
    raise exception using errcode = 'RH010',
      message = format('tenant "%s" is no value of column %I, which has type %s', p_tenant, p_column, p_type);
  end if;
  return v_literal;
end
$$;

comment on function rowhouse.check_owner_of_rows(text, name, regtype) is
  'The id as a literal for the tenant column. Raises RH002, RH004 or RH010 when this tenant cannot own existing rows.';

create or replace function rowhouse.plan_tenant_column(p_table regclass, p_column name, p_type regtype, p_existing_rows text)
  returns table (statement text, purpose text)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_attribute pg_attribute;
  v_is_text boolean := p_type = any (array['text', 'character varying']::regtype[]);
  v_validated boolean;
  v_count bigint := 0;
  v_default text := rowhouse.tenant_default(p_type);
begin
  select a.* into v_attribute from pg_attribute a
    where a.attrelid = p_table and a.attname = p_column and a.attnum > 0 and not a.attisdropped;
  select c.convalidated into v_validated from pg_constraint c
    where c.conrelid = p_table and c.conname = 'rowhouse_tenant_present';

  -- A tenant in every row. Those of a table that is protected already have been looked at.
  if v_attribute.attname is null then
    execute format('select count(*) from (select from %s limit 1) r', p_table) into v_count;
    if v_count > 0 and p_existing_rows is null then
      raise exception using errcode = 'RH010',
        message = format('%s has rows and no column %I', p_table, p_column),
        hint = format('Say whose rows they are: select rowhouse.protect_table(%L, p_existing_rows => ''<tenant>'').', p_table);
    end if;
    statement := format('alter table %s add column %I %s', p_table, p_column, p_type) || coalesce(' default ' || p_existing_rows, '');
    purpose := case when p_existing_rows is null then 'add the tenant column'
      else 'add the tenant column; a constant default fills existing rows without rewriting the table' end;
    return next;
  elsif not (v_attribute.attnotnull and exists (select from rowhouse.protected_tables t
      where t.relation = p_table and t.tenant_column = p_column)) then
    if not v_attribute.attnotnull then
      execute format('select count(*) from %s where %I is null', p_table, p_column) into v_count;
    end if;
    if v_count > 0 and p_existing_rows is null then
      raise exception using errcode = 'RH010',
        message = format('%s has %s rows without a tenant in column %I', p_table, v_count, p_column),
        hint = format('Fill them, or say whose they are: select rowhouse.protect_table(%L, p_existing_rows => ''<tenant>'').', p_table);
    elsif v_count > 0 then
      statement := format('update %s set %I = %s where %I is null', p_table, p_column, p_existing_rows, p_column);
      purpose := format('give %s rows their tenant', v_count);
      return next;
    end if;
    if v_is_text then
      execute format('select count(*) from %s where %I !~ ''^[a-zA-Z0-9_-]{1,64}$''', p_table, p_column) into v_count;
      if v_count > 0 then
        raise exception using errcode = 'RH010',
          message = format('%s has %s rows whose %I is no tenant id', p_table, v_count, p_column),
          hint = 'A tenant id is 1 to 64 letters, digits, underscores or hyphens.';
      end if;
    end if;
  end if;

  -- NOT NULL by way of a check that is validated without blocking writers, and goes when it has done its work: Postgres
  -- would read it again for every statement.
  if v_attribute.attnotnull is not true then
    if v_validated is null then
      statement := format('alter table %s add constraint rowhouse_tenant_present check (%I is not null) not valid', p_table, p_column);
      purpose := 'from now on every row has a tenant';
      return next;
    end if;
    if v_validated is not true then
      statement := format('alter table %s validate constraint rowhouse_tenant_present', p_table);
      purpose := 'check the existing rows; reads the table, blocks nobody';
      return next;
    end if;
    statement := format('alter table %s alter column %I set not null', p_table, p_column);
    purpose := 'needs no scan: the validated check proves it';
    return next;
  end if;
  if v_attribute.attnotnull is not true or v_validated is not null then
    statement := format('alter table %s drop constraint rowhouse_tenant_present', p_table);
    purpose := 'not null says it, and costs statements nothing';
    return next;
  end if;
  if v_attribute.attname is null or not exists (
      select from pg_attrdef d where d.adrelid = p_table and d.adnum = v_attribute.attnum
        and pg_get_expr(d.adbin, d.adrelid) in (v_default, format('(%s)::%s', split_part(v_default, '::', 1), p_type))) then
    statement := format('alter table %s alter column %I set default %s', p_table, p_column, v_default);
    purpose := 'inserts need not name the tenant';
    return next;
  end if;
end
$$;

comment on function rowhouse.plan_tenant_column(regclass, name, regtype, text) is
  'The part of a protection plan that gives every row a tenant: column, values, NOT NULL, default.';

create or replace function rowhouse.plan_index(p_table regclass, p_column name)
  returns table (statement text, purpose text, transactional boolean)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_attribute smallint;
  v_invalid regclass;
begin
  select a.attnum into v_attribute from pg_attribute a
    where a.attrelid = p_table and a.attname = p_column and a.attnum > 0 and not a.attisdropped;
  if exists (select from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am m on m.oid = c.relam
      where i.indrelid = p_table and i.indisvalid and i.indpred is null and i.indkey[0] = v_attribute
        and m.amname in ('btree', 'hash')) then
    return;
  end if;
  -- A small table is indexed at once; a large one without blocking its writers, which no function can do. Postgres
  -- builds no index concurrently on a partitioned table.
  transactional := pg_partition_root(p_table) is not null or pg_table_size(p_table) < 64 * 1024 * 1024;
  for v_invalid in
    select i.indexrelid from pg_index i join pg_class c on c.oid = i.indexrelid
      where i.indrelid = p_table and not i.indisvalid and c.relkind = 'i' and i.indkey::text = v_attribute::text
  loop
    statement := format('drop index %s%s', case when transactional then '' else 'concurrently ' end, v_invalid);
    purpose := 'left over by a concurrent build that failed';
    return next;
  end loop;
  statement := format('create index %son %s (%I)', case when transactional then '' else 'concurrently ' end, p_table, p_column);
  purpose := 'policies become index conditions';
  return next;
end
$$;

comment on function rowhouse.plan_index(regclass, name) is 'The part of a protection plan that finds the rows of a tenant by an index.';

create or replace function rowhouse.plan_policies(p_table regclass, p_column name, p_type regtype)
  returns table (statement text, purpose text)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_relation regclass;
  v_line text;
begin
  -- Partitions first, which take no privileges: when the table itself is done, nothing is left open.
  for v_relation in
    select t.relid from pg_partition_tree(p_table) t where t.relid <> p_table union all select p_table
  loop
    for v_line in select s from rowhouse.policy_statements(v_relation, p_column, p_type) s loop
      statement := v_line;
      purpose := 'row-level security';
      return next;
    end loop;
    if v_relation <> p_table and exists (select from pg_class c, aclexplode(c.relacl) a
        where c.oid = v_relation and a.grantee in (0, 'rowhouse_app'::regrole, 'rowhouse_admin'::regrole)) then
      statement := format('revoke all on %s from public, rowhouse_app, rowhouse_admin', v_relation);
      purpose := 'a partition is reached through its table only';
      return next;
    end if;
  end loop;

  if not rowhouse.has_write_guard(p_table) then
    statement := format('create or replace trigger rowhouse_guard before insert or update or delete on %s '
      'for each statement execute function rowhouse.guard_tenant_write()', p_table);
    purpose := 'no row is written while or after its tenant is erased';
    return next;
  end if;
end
$$;

comment on function rowhouse.plan_policies(regclass, name, regtype) is
  'The part of a protection plan that separates tenants: policies on the table and its partitions, the write guard.';

create or replace function rowhouse.plan_privileges(p_table regclass, p_column name)
  returns table (statement text, purpose text)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_schema regnamespace := (select c.relnamespace from pg_class c where c.oid = p_table);
  v_updates_all boolean;
  v_columns text;
  v_sequence regclass;
begin
  if not (has_schema_privilege('rowhouse_app', v_schema, 'usage') and has_schema_privilege('rowhouse_owner', v_schema, 'usage')) then
    statement := format('grant usage on schema %s to rowhouse_app, rowhouse_owner', v_schema);
    purpose := 'the application reaches the schema';
    return next;
  end if;
  -- Rows for the application, nothing that policies don't hold for.
  if not (has_table_privilege('rowhouse_app', p_table, 'select') and has_table_privilege('rowhouse_app', p_table, 'insert')
      and has_table_privilege('rowhouse_app', p_table, 'delete')) then
    statement := format('grant select, insert, delete on %s to rowhouse_app', p_table);
    purpose := 'the application works with the rows of its tenant';
    return next;
  end if;
  -- Every column but the tenant, which never changes.
  v_updates_all := exists (select from pg_class c, aclexplode(c.relacl) a
    where c.oid = p_table and a.grantee = 'rowhouse_app'::regrole and a.privilege_type = 'UPDATE');
  if v_updates_all or exists (select from pg_attribute t, aclexplode(t.attacl) a
      where t.attrelid = p_table and t.attname = p_column and a.grantee = 'rowhouse_app'::regrole and a.privilege_type = 'UPDATE') then
    statement := format('revoke update on %s from rowhouse_app', p_table);
    purpose := 'the tenant of a row never changes';
    return next;
    v_updates_all := true;
  end if;
  select string_agg(quote_ident(a.attname), ', ' order by a.attnum) into v_columns
    from pg_attribute a
    where a.attrelid = p_table and a.attnum > 0 and not a.attisdropped and a.attname <> p_column and a.attgenerated = ''
      and (v_updates_all or not has_column_privilege('rowhouse_app', p_table, a.attnum, 'update'));
  if v_columns is not null then
    statement := format('grant update (%s) on %s to rowhouse_app', v_columns, p_table);
    purpose := 'the application changes everything but the tenant of a row';
    return next;
  end if;
  if exists (select from pg_class c, aclexplode(c.relacl) a where c.oid = p_table
      and a.grantee = 'rowhouse_app'::regrole and a.privilege_type in ('TRUNCATE', 'REFERENCES', 'TRIGGER')) then
    statement := format('revoke truncate, references, trigger on %s from rowhouse_app', p_table);
    purpose := 'policies do not hold for these';
    return next;
  end if;
  if not (has_table_privilege('rowhouse_owner', p_table, 'select') and has_table_privilege('rowhouse_owner', p_table, 'insert')
      and has_table_privilege('rowhouse_owner', p_table, 'update') and has_table_privilege('rowhouse_owner', p_table, 'delete')) then
    statement := format('grant select, insert, update, delete on %s to rowhouse_owner', p_table);
    purpose := 'erasure deletes the rows of one tenant, and triggers of yours may write meanwhile';
    return next;
  end if;
  for v_sequence in
    select s.oid
      from pg_depend d join pg_class s on s.oid = d.objid and s.relkind = 'S'
      where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = p_table
        and d.deptype = 'a'
  loop
    if not (has_sequence_privilege('rowhouse_app', v_sequence, 'usage') and has_sequence_privilege('rowhouse_owner', v_sequence, 'usage')) then
      statement := format('grant usage on sequence %s to rowhouse_app, rowhouse_owner', v_sequence);
      purpose := 'inserts draw numbers from it';
      return next;
    end if;
  end loop;
  for v_sequence in
    select s.oid
      from pg_depend d join pg_class s on s.oid = d.objid and s.relkind = 'S'
      where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = p_table
        and d.refobjsubid > 0 and d.deptype in ('a', 'i')
  loop
    if not (has_sequence_privilege('rowhouse_owner', v_sequence, 'usage') and has_sequence_privilege('rowhouse_owner', v_sequence, 'update')) then
      statement := format('grant usage, update on sequence %s to rowhouse_owner', v_sequence);
      purpose := 'after an import it goes on behind the numbers of the imported rows';
      return next;
    end if;
  end loop;
end
$$;

comment on function rowhouse.plan_privileges(regclass, name) is
  'The part of a protection plan that grants the application what policies hold for, and nothing else.';

create or replace function rowhouse.protection_plan(
  p_table regclass,
  p_column name default 'tenant_id',
  p_existing_rows text default null,
  p_partition boolean default false
) returns table (step integer, statement text, purpose text, transactional boolean)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  v_type regtype;
  v_rows text;
  v_step record;
begin
  perform rowhouse.check_protectable(p_table);
  v_type := coalesce(rowhouse.tenant_column_type(p_table, p_column), 'text'::regtype);
  if p_existing_rows is not null then
    v_rows := rowhouse.check_owner_of_rows(p_existing_rows, p_column, v_type);
  end if;
  step := 0;
  for v_step in
    select s.statement, s.purpose, s.transactional
      from (
        select 1 as place, c.statement, c.purpose, true as transactional, row_number() over () as number
          from rowhouse.plan_tenant_column(p_table, p_column, v_type, v_rows) c
        union all
        select 2, i.statement, i.purpose, i.transactional, row_number() over () from rowhouse.plan_index(p_table, p_column) i
        union all
        select 3, o.statement, o.purpose, true, row_number() over () from rowhouse.plan_policies(p_table, p_column, v_type) o
        union all
        select 4, v.statement, v.purpose, true, row_number() over () from rowhouse.plan_privileges(p_table, p_column) v
        union all
        -- Late: the new table gets whatever the old one has.
        select 5, format('select rowhouse.lay_out_table(%L, %L)', p_table, p_column),
            'partition the table by tenant; rewrites it and blocks it meanwhile', true, 1
          where p_partition and not rowhouse.is_laid_out(p_table)
      ) s
      order by s.place, s.number
  loop
    step := step + 1;
    statement := v_step.statement;
    purpose := v_step.purpose;
    transactional := v_step.transactional;
    return next;
  end loop;

  if step > 0 or not exists (select from rowhouse.protected_tables t
      where t.relation = p_table and t.tenant_column = p_column and t.column_type = v_type) then
    step := step + 1;
    statement := format('select rowhouse.register_table(%L, %L)', p_table, p_column);
    purpose := 'enter it into the registry that erasure, promotion and clients read';
    transactional := true;
    return next;
  end if;
end
$$;

comment on function rowhouse.protection_plan(regclass, name, text, boolean) is
  'The statements that are still missing until the table is protected, in order. Each may run in a transaction of its own; those that are not transactional must. Raises RH010 when the table cannot be protected.';

revoke execute on function
  rowhouse.check_protectable(regclass), rowhouse.check_owner_of_rows(text, name, regtype),
  rowhouse.plan_tenant_column(regclass, name, regtype, text), rowhouse.plan_index(regclass, name),
  rowhouse.plan_policies(regclass, name, regtype), rowhouse.plan_privileges(regclass, name),
  rowhouse.protection_plan(regclass, name, text, boolean)
  from public;
grant execute on function
  rowhouse.check_protectable(regclass), rowhouse.check_owner_of_rows(text, name, regtype),
  rowhouse.plan_tenant_column(regclass, name, regtype, text), rowhouse.plan_index(regclass, name),
  rowhouse.plan_policies(regclass, name, regtype), rowhouse.plan_privileges(regclass, name),
  rowhouse.protection_plan(regclass, name, text, boolean)
  to rowhouse_admin;
