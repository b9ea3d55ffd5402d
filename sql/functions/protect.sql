-- Protection: makes a table of the user's own tenant-owned.
--
-- protect_table executes a plan; the plan is a table of statements, so a dry run shows exactly what would run, and a
-- client can run the same statements one transaction at a time on a table that must stay available.
-- Depends on: policies.sql, layout.sql, protect_findings.sql. Proven by: test/protect.

alter table rowhouse.protected_tables enable row level security, force row level security;
drop policy if exists everybody_reads on rowhouse.protected_tables;
create policy everybody_reads on rowhouse.protected_tables for select to public using (true);
comment on policy everybody_reads on rowhouse.protected_tables is 'Names of tables and columns; no data of tenants.';
drop policy if exists owner_all on rowhouse.protected_tables;
create policy owner_all on rowhouse.protected_tables for all to rowhouse_owner using (true) with check (true);
comment on policy owner_all on rowhouse.protected_tables is 'The functions of rowhouse write the registry.';

alter table rowhouse.exempt_tables enable row level security, force row level security;
drop policy if exists everybody_reads on rowhouse.exempt_tables;
create policy everybody_reads on rowhouse.exempt_tables for select to public using (true);
comment on policy everybody_reads on rowhouse.exempt_tables is 'Names of tables; no data of tenants.';
drop policy if exists owner_all on rowhouse.exempt_tables;
create policy owner_all on rowhouse.exempt_tables for all to rowhouse_owner using (true) with check (true);
comment on policy owner_all on rowhouse.exempt_tables is 'The functions of rowhouse write the registry.';
grant select on rowhouse.exempt_tables to rowhouse_admin;

create or replace function rowhouse.register_table(p_table regclass, p_column name) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_class pg_class;
  v_type regtype;
begin
  select c.* into v_class from pg_class c where c.oid = p_table;
  -- The functions of rowhouse create tables of their own; everybody else registers what he owns.
  if v_class.relowner <> 'rowhouse_owner'::regrole and not pg_has_role(session_user, v_class.relowner, 'member') then
    raise exception using errcode = 'insufficient_privilege', message = format('must be owner of table %s', p_table);
  end if;
  select a.atttypid into v_type from pg_attribute a
    where a.attrelid = p_table and a.attname = p_column and not a.attisdropped;
  perform rowhouse.tenant_condition(p_column, v_type);
  insert into rowhouse.protected_tables (relation, tenant_column, column_type, layout)
    values (p_table, p_column, v_type, case when rowhouse.is_laid_out(p_table) then 'partitioned' else 'plain' end)
    on conflict (relation) do update
      set tenant_column = excluded.tenant_column, column_type = excluded.column_type, layout = excluded.layout;
  delete from rowhouse.exempt_tables e where e.relation = p_table;
  -- Rows of dropped tables are of no use to anybody.
  delete from rowhouse.protected_tables t where not exists (select from pg_class c where c.oid = t.relation);
end
$$;

comment on function rowhouse.register_table(regclass, name) is
  'Enters a table into the registry; the last step of protect_table.';

create or replace function rowhouse.unregister_table(p_table regclass) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_owner oid;
begin
  select c.relowner into v_owner from pg_class c where c.oid = p_table;
  if not pg_has_role(session_user, v_owner, 'member') then
    raise exception using errcode = 'insufficient_privilege', message = format('must be owner of table %s', p_table);
  end if;
  delete from rowhouse.protected_tables t where t.relation = p_table;
end
$$;

comment on function rowhouse.unregister_table(regclass) is 'Removes a table from the registry; the last step of unprotect_table.';

create or replace function rowhouse.exempt_table(p_table regclass, p_reason text) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (select from rowhouse.protected_tables t where t.relation = p_table) then
    raise exception using errcode = 'RH010', message = format('%s is protected, so it holds rows of tenants', p_table),
      hint = 'Call rowhouse.unprotect_table first.';
  end if;
  insert into rowhouse.exempt_tables (relation, reason) values (p_table, p_reason)
    on conflict (relation) do update set reason = excluded.reason;
end
$$;

comment on function rowhouse.exempt_table(regclass, text) is
  'Declares that a table with a tenant column holds nothing that must go when a tenant is erased. Receipts name it with the reason.';

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
  elsif not pg_has_role(current_user, v_class.relowner, 'usage') then
    raise exception using errcode = 'insufficient_privilege', message = format('must be owner of table %s', p_table),
      hint = format('Run it as %I.', pg_get_userbyid(v_class.relowner));
  else
    return;
  end if;
  raise exception using errcode = 'RH010', message = format('%s cannot be protected: %s', p_table, v_reason), hint = v_hint;
end
$$;

comment on function rowhouse.check_protectable(regclass) is 'Raises RH010 with the reason when a table cannot be protected.';

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
  v_attribute pg_attribute;
  v_type regtype := 'text';
  v_is_text boolean;
  v_rows text;
  v_count bigint;
  v_default text;
  v_schema regnamespace;
  v_relation regclass;
  v_object record;
begin
  perform rowhouse.check_protectable(p_table);
  select a.* into v_attribute from pg_attribute a
    where a.attrelid = p_table and a.attname = p_column and a.attnum > 0 and not a.attisdropped;
  if v_attribute.attname is not null then
    v_type := v_attribute.atttypid;
  end if;
  perform rowhouse.tenant_condition(p_column, v_type);
  v_is_text := v_type = any (array['text', 'character varying']::regtype[]);
  if p_existing_rows is not null then
    perform rowhouse.check_tenant_id(p_existing_rows);
    v_rows := rowhouse.tenant_literal(p_existing_rows, v_type);
    if v_rows is null then
      raise exception using errcode = 'RH010',
        message = format('tenant "%s" is no value of column %I, which has type %s', p_existing_rows, p_column, v_type);
    end if;
  end if;
  step := 0;
  transactional := true;

  -- The column, with a value in every row.
  if v_attribute.attname is null then
    execute format('select count(*) from (select from %s limit 1) r', p_table) into v_count;
    if v_count > 0 and v_rows is null then
      raise exception using errcode = 'RH010',
        message = format('%s has rows and no column %I', p_table, p_column),
        hint = format('Say whose rows they are: select rowhouse.protect_table(%L, p_existing_rows => ''<tenant>'').', p_table);
    end if;
    step := step + 1;
    statement := format('alter table %s add column %I %s', p_table, p_column, v_type) || coalesce(' default ' || v_rows, '');
    purpose := case when v_rows is null then 'add the tenant column'
      else 'add the tenant column; a constant default fills existing rows without rewriting the table' end;
    return next;
  elsif not v_attribute.attnotnull then
    execute format('select count(*) from %s where %I is null', p_table, p_column) into v_count;
    if v_count > 0 and v_rows is null then
      raise exception using errcode = 'RH010',
        message = format('%s has %s rows without a tenant in column %I', p_table, v_count, p_column),
        hint = format('Fill them, or say whose they are: select rowhouse.protect_table(%L, p_existing_rows => ''<tenant>'').', p_table);
    elsif v_count > 0 then
      step := step + 1;
      statement := format('update %s set %I = %s where %I is null', p_table, p_column, v_rows, p_column);
      purpose := format('give %s rows their tenant', v_count);
      return next;
    end if;
  end if;
  if v_attribute.attname is not null and v_is_text then
    execute format('select count(*) from %s where %I !~ ''^[a-zA-Z0-9_-]{1,64}$''', p_table, p_column) into v_count;
    if v_count > 0 then
      raise exception using errcode = 'RH010',
        message = format('%s has %s rows whose %I is no tenant id', p_table, v_count, p_column),
        hint = 'A tenant id is 1 to 64 letters, digits, underscores or hyphens.';
    end if;
  end if;

  -- NOT NULL by way of a check that is validated without blocking writers. Without a tenant the setting reads '' on a
  -- connection that was used before, so '' must never be a value.
  select c.oid, c.convalidated into v_object from pg_constraint c
    where c.conrelid = p_table and c.conname = 'rowhouse_tenant_present';
  if v_object.oid is null then
    step := step + 1;
    statement := format('alter table %s add constraint rowhouse_tenant_present check (%I is not null', p_table, p_column)
      || case when v_is_text then format(' and %I <> ''''', p_column) else '' end || ') not valid';
    purpose := 'from now on every row has a tenant';
    return next;
  end if;
  if v_object.convalidated is not true then
    step := step + 1;
    statement := format('alter table %s validate constraint rowhouse_tenant_present', p_table);
    purpose := 'check the existing rows; reads the table, blocks nobody';
    return next;
  end if;
  if v_attribute.attnotnull is not true then
    step := step + 1;
    statement := format('alter table %s alter column %I set not null', p_table, p_column);
    purpose := 'needs no scan: the validated check proves it';
    return next;
  end if;

  v_default := rowhouse.tenant_default(v_type);
  if v_attribute.attname is null or not exists (
      select from pg_attrdef d where d.adrelid = p_table and d.adnum = v_attribute.attnum
        and pg_get_expr(d.adbin, d.adrelid) in (v_default, format('(%s)::%s', split_part(v_default, '::', 1), v_type))) then
    step := step + 1;
    statement := format('alter table %s alter column %I set default %s', p_table, p_column, v_default);
    purpose := 'inserts need not name the tenant';
    return next;
  end if;

  if not exists (select from pg_index i
      where i.indrelid = p_table and i.indisvalid and i.indpred is null and i.indkey[0] = v_attribute.attnum) then
    step := step + 1;
    -- A small table is indexed at once; a large one without blocking its writers, which no function can do. Postgres
    -- builds no index concurrently on a partitioned table.
    transactional := pg_partition_root(p_table) is not null or pg_table_size(p_table) < 64 * 1024 * 1024;
    statement := format('create index %son %s (%I)', case when transactional then '' else 'concurrently ' end, p_table, p_column);
    purpose := 'policies become index conditions';
    return next;
    transactional := true;
  end if;

  if p_partition and not rowhouse.is_laid_out(p_table) then
    step := step + 1;
    statement := format('select rowhouse.lay_out_table(%L, %L)', p_table, p_column);
    purpose := 'partition the table by tenant; rewrites it and blocks it meanwhile';
    return next;
  end if;

  -- Policies on the table and on each of its partitions, which take no privileges.
  for v_relation in select t.relid from pg_partition_tree(p_table) t union select p_table order by 1 loop
    for v_object in select s as line from rowhouse.policy_statements(v_relation, p_column, v_type) s loop
      step := step + 1;
      statement := v_object.line;
      purpose := 'row-level security';
      return next;
    end loop;
    if v_relation <> p_table and exists (select from pg_class c, aclexplode(c.relacl) a
        where c.oid = v_relation and a.grantee in (0, 'rowhouse_app'::regrole, 'rowhouse_admin'::regrole)) then
      step := step + 1;
      statement := format('revoke all on %s from public, rowhouse_app, rowhouse_admin', v_relation);
      purpose := 'a partition is reached through its table only';
      return next;
    end if;
  end loop;

  -- Writers and erasure of one tenant exclude each other.
  if not exists (select from pg_trigger t where t.tgrelid = p_table and t.tgname = 'rowhouse_guard'
      and t.tgfoid = 'rowhouse.guard_tenant_write'::regproc and t.tgenabled in ('O', 'A')) then
    step := step + 1;
    statement := format('create or replace trigger rowhouse_guard before insert or update on %s '
      'for each statement execute function rowhouse.guard_tenant_write()', p_table);
    purpose := 'no row is written while or after its tenant is erased';
    return next;
  end if;

  -- Privileges: rows for the application, nothing that policies don't hold for.
  select c.relnamespace into v_schema from pg_class c where c.oid = p_table;
  if not (has_schema_privilege('rowhouse_app', v_schema, 'usage') and has_schema_privilege('rowhouse_owner', v_schema, 'usage')) then
    step := step + 1;
    statement := format('grant usage on schema %s to rowhouse_app, rowhouse_owner', v_schema);
    purpose := 'the application reaches the schema';
    return next;
  end if;
  if not (has_table_privilege('rowhouse_app', p_table, 'select') and has_table_privilege('rowhouse_app', p_table, 'insert')
      and has_table_privilege('rowhouse_app', p_table, 'update') and has_table_privilege('rowhouse_app', p_table, 'delete')) then
    step := step + 1;
    statement := format('grant select, insert, update, delete on %s to rowhouse_app', p_table);
    purpose := 'the application works with the rows of its tenant';
    return next;
  end if;
  if has_table_privilege('rowhouse_app', p_table, 'truncate, references, trigger') then
    step := step + 1;
    statement := format('revoke truncate, references, trigger on %s from rowhouse_app', p_table);
    purpose := 'policies do not hold for these';
    return next;
  end if;
  if not (has_table_privilege('rowhouse_owner', p_table, 'select') and has_table_privilege('rowhouse_owner', p_table, 'delete')) then
    step := step + 1;
    statement := format('grant select, delete on %s to rowhouse_owner', p_table);
    purpose := 'erasure counts and deletes the rows of one tenant';
    return next;
  end if;
  for v_object in
    select s.oid::regclass as relation
      from pg_depend d join pg_class s on s.oid = d.objid and s.relkind = 'S'
      where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = p_table
        and d.deptype = 'a'
        -- Not one condition with those above: Postgres may ask for the privilege on what is no sequence.
        and case when s.relkind = 'S' then not has_sequence_privilege('rowhouse_app', s.oid, 'usage') end
  loop
    step := step + 1;
    statement := format('grant usage on sequence %s to rowhouse_app', v_object.relation);
    purpose := 'inserts draw numbers from it';
    return next;
  end loop;

  if step > 0 or not exists (select from rowhouse.protected_tables t
      where t.relation = p_table and t.tenant_column = p_column and t.column_type = v_type) then
    step := step + 1;
    statement := format('select rowhouse.register_table(%L, %L)', p_table, p_column);
    purpose := 'enter it into the registry that erasure, promotion and clients read';
    return next;
  end if;
end
$$;

comment on function rowhouse.protection_plan(regclass, name, text, boolean) is
  'The statements that are still missing until the table is protected, in order. Each may run in a transaction of its own; those that are not transactional must. Raises RH010 when the table cannot be protected.';

create or replace function rowhouse.protect_table(
  p_table regclass,
  p_column name default 'tenant_id',
  p_existing_rows text default null,
  p_partition boolean default false,
  p_dry_run boolean default false
) returns jsonb
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_name text := p_table::text;
  v_table regclass := p_table;
  v_plan jsonb;
  v_step jsonb;
  v_done boolean;
  v_steps jsonb := '[]';
  v_replaced boolean;
begin
  loop
    v_replaced := false;
    select coalesce(jsonb_agg(to_jsonb(p) order by p.step), '[]') into v_plan
      from rowhouse.protection_plan(v_table, p_column, p_existing_rows, p_partition) p;
    for v_step in select * from jsonb_array_elements(v_plan) loop
      v_done := not p_dry_run and (v_step ->> 'transactional')::boolean;
      v_steps := v_steps || (v_step || jsonb_build_object('step', jsonb_array_length(v_steps) + 1, 'done', v_done));
      if v_done then
        execute v_step ->> 'statement';
        -- Partitioning replaces the table by a new one of its name, for which the rest is planned again.
        v_replaced := to_regclass(v_name) <> v_table;
        exit when v_replaced;
      end if;
    end loop;
    exit when not v_replaced;
    v_table := v_name::regclass;
  end loop;
  return jsonb_build_object(
    'table', v_name, 'column', p_column, 'dryRun', p_dry_run, 'steps', v_steps,
    'findings', (
      select coalesce(jsonb_agg(to_jsonb(f) order by array_position(array['error', 'warning', 'info'], f.level), f.kind, f.object), '[]')
        from rowhouse.protection_findings(v_table, p_column) f));
end
$$;

comment on function rowhouse.protect_table(regclass, name, text, boolean, boolean) is
  'Makes a table tenant-owned: column, default, NOT NULL, forced row-level security with a permissive and a restrictive policy on the table and its partitions, privileges, write guard, registry. p_column: the tenant column (text, character varying, uuid, integer, bigint); added as text when missing. p_existing_rows: the tenant of rows that have none. p_partition: also partition the table by tenant. p_dry_run: change nothing, only report. Returns the steps, those left to run outside a function (done = false), and findings that it cannot make safe. Calling it again does only what is missing.';

create or replace function rowhouse.unprotect_table(p_table regclass) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_column name;
  v_relation regclass;
begin
  select t.tenant_column into v_column from rowhouse.protected_tables t where t.relation = p_table;
  if v_column is null then
    raise exception using errcode = 'RH011', message = format('%s is not protected', p_table);
  end if;
  perform rowhouse.check_protectable(p_table);
  for v_relation in select t.relid from pg_partition_tree(p_table) t union select p_table loop
    execute format('drop policy if exists rowhouse_tenant on %s', v_relation);
    execute format('drop policy if exists rowhouse_isolation on %s', v_relation);
    -- Policies of the user's own keep row-level security on.
    if not exists (select from pg_policy p where p.polrelid = v_relation) then
      execute format('alter table %s no force row level security, disable row level security', v_relation);
    end if;
  end loop;
  execute format('drop trigger if exists rowhouse_guard on %s', p_table);
  execute format('alter table %s alter column %I drop default', p_table, v_column);
  execute format('alter table %s drop constraint if exists rowhouse_tenant_present', p_table);
  execute format('revoke all on %s from rowhouse_app', p_table);
  if (select c.relowner from pg_class c where c.oid = p_table) <> 'rowhouse_owner'::regrole then
    execute format('revoke all on %s from rowhouse_owner', p_table);
  end if;
  perform rowhouse.unregister_table(p_table);
end
$$;

comment on function rowhouse.unprotect_table(regclass) is
  'Takes back what protect_table did, except the tenant column and its values. From then on roles with privileges on the table see the rows of every tenant; rowhouse_app has none. Raises RH011 when the table is not protected.';

revoke execute on function
  rowhouse.register_table(regclass, name), rowhouse.unregister_table(regclass), rowhouse.exempt_table(regclass, text),
  rowhouse.check_protectable(regclass), rowhouse.protection_plan(regclass, name, text, boolean),
  rowhouse.protect_table(regclass, name, text, boolean, boolean), rowhouse.unprotect_table(regclass)
  from public;
grant execute on function
  rowhouse.register_table(regclass, name), rowhouse.unregister_table(regclass), rowhouse.exempt_table(regclass, text),
  rowhouse.check_protectable(regclass), rowhouse.protection_plan(regclass, name, text, boolean),
  rowhouse.protect_table(regclass, name, text, boolean, boolean), rowhouse.unprotect_table(regclass)
  to rowhouse_admin;
