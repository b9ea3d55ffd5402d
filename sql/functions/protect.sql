-- Protection: makes a table of the user's own tenant-owned.
--
-- protect_table executes a plan; the plan is a table of statements, so a dry run shows exactly what would run, and a
-- client can run the same statements one transaction at a time on a table that must stay available.
-- Depends on: protect_plan.sql, protect_findings.sql. Proven by: test/protect.

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
  v_type regtype := rowhouse.tenant_column_type(p_table, p_column);
begin
  select c.* into v_class from pg_class c where c.oid = p_table;
  -- The functions of rowhouse create tables of their own; everybody else registers what he owns.
  if v_class.relowner <> 'rowhouse_owner'::regrole and not pg_has_role(session_user, v_class.relowner, 'member') then
    raise exception using errcode = 'insufficient_privilege', message = format('must be owner of table %s', p_table);
  end if;
  if v_type is null then
    raise exception using errcode = 'undefined_column', message = format('%s has no column %I', p_table, p_column);
  end if;
  insert into rowhouse.protected_tables (relation, tenant_column, column_type, layout)
    values (p_table, p_column, v_type, case when rowhouse.is_laid_out(p_table) then 'partitioned' else 'plain' end)
    on conflict (relation) do update
      set tenant_column = excluded.tenant_column, column_type = excluded.column_type, layout = excluded.layout;
  delete from rowhouse.exempt_tables e
    where e.relation = p_table or not exists (select from pg_class c where c.oid = e.relation);
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
  if p_table is null or p_reason !~ '\S' is not false then
    raise exception using errcode = 'invalid_parameter_value', message = 'an exempt table needs a reason, which receipts of erasures repeat';
  end if;
  insert into rowhouse.exempt_tables (relation, reason) values (p_table, p_reason)
    on conflict (relation) do update set reason = excluded.reason;
end
$$;

comment on function rowhouse.exempt_table(regclass, text) is
  'Declares that a table with a tenant column holds nothing that must go when a tenant is erased. Receipts name it with the reason.';

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
  if not p_dry_run then
    perform rowhouse.check_protectable(p_table);
    -- Two calls at once: the second finds the work of the first done.
    execute format('lock table only %s in share update exclusive mode', v_name);
  end if;
  loop
    v_replaced := false;
    select coalesce(jsonb_agg(to_jsonb(p) order by p.step), '[]') into v_plan
      from rowhouse.protection_plan(v_table, p_column, p_existing_rows, p_partition) p;
    for v_step in select * from jsonb_array_elements(v_plan) loop
      v_done := not p_dry_run and (v_step ->> 'transactional')::boolean;
      v_steps := v_steps || (v_step || jsonb_build_object('step', jsonb_array_length(v_steps) + 1, 'done', v_done));
      if v_done then
        perform rowhouse.execute_for(v_table, v_step ->> 'statement');
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
  'Makes a table tenant-owned: column, default, NOT NULL, forced row-level security with a permissive and a restrictive policy on the table and its partitions, privileges, write guard, registry. p_column: the tenant column (text, character varying, uuid, integer, bigint, or a domain over one of them); added as text when missing. p_existing_rows: the registered tenant of rows that have none. p_partition: also partition the table by tenant. p_dry_run: change nothing, only report. Returns the steps, those left to run outside a function (done = false), and findings that it cannot make safe. Calling it again does only what is missing.';

create or replace function rowhouse.unprotect_table(p_table regclass) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_column name;
  v_relation regclass;
  v_roles text;
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
  v_roles := case when (select c.relowner from pg_class c where c.oid = p_table) = 'rowhouse_owner'::regrole
    then 'rowhouse_app' else 'rowhouse_app, rowhouse_owner' end;
  execute format('revoke all on %s from %s', p_table, v_roles);
  for v_relation in
    select s.oid from pg_depend d join pg_class s on s.oid = d.objid and s.relkind = 'S'
      where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = p_table and d.deptype in ('a', 'i')
  loop
    execute format('revoke all on sequence %s from %s', v_relation, v_roles);
  end loop;
  perform rowhouse.unregister_table(p_table);
end
$$;

comment on function rowhouse.unprotect_table(regclass) is
  'Takes back what protect_table did, except the tenant column and its values. From then on roles with privileges on the table see the rows of every tenant; rowhouse_app has none. Raises RH011 when the table is not protected.';

revoke execute on function
  rowhouse.register_table(regclass, name), rowhouse.unregister_table(regclass), rowhouse.exempt_table(regclass, text),
  rowhouse.protect_table(regclass, name, text, boolean, boolean), rowhouse.unprotect_table(regclass)
  from public;
grant execute on function
  rowhouse.register_table(regclass, name), rowhouse.unregister_table(regclass), rowhouse.exempt_table(regclass, text),
  rowhouse.protect_table(regclass, name, text, boolean, boolean), rowhouse.unprotect_table(regclass)
  to rowhouse_admin;
