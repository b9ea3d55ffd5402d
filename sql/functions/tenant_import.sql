-- Import: the rows of an archive become those of a tenant, all of them or none, in one transaction.
--
-- begin_import locks the tenant and checks everything that can be known before; it leaves it in the status importing, in
-- which nobody may work with it. finish_import reads back what was written, compares the digests with the archive's, and
-- only then opens the tenant. The tenant is written by the functions: a line has no column for it.
-- Depends on: tenant_export.sql, tenant_import_rows.sql, locks.sql, audit.sql. Proven by: test/portability.

select rowhouse.protect_table('rowhouse.import_lines');
revoke all on rowhouse.import_lines from rowhouse_app;
revoke update (relation, line) on rowhouse.import_lines from rowhouse_app;

create or replace function rowhouse.refuse_import(p_message text, p_hint text default null) returns void
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception using errcode = 'RH035', message = p_message,
    hint = coalesce(p_hint, 'Bring both databases to the same schema, then import again; nothing was imported.');
end
$$;

comment on function rowhouse.refuse_import(text, text) is 'Raises RH035.';

create or replace function rowhouse.plain_type(p_type text) returns text
  language sql immutable parallel safe
  return regexp_replace(p_type, '^("([^"]|"")+"|[a-z_][a-z0-9_$]*)\.', '');

comment on function rowhouse.plain_type(text) is
  'The name of a type without its schema: an extension may be elsewhere in another database.';

create or replace function rowhouse.import_obstacles(p_tenant text, p_tables jsonb) returns table (obstacle text)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_table record;
  v_target record;
  v_name text;
begin
  for v_table in
    select t.value ->> 'schema' as schema, t.value ->> 'name' as name, t.value ->> 'tenantColumn' as tenant_column, t.value -> 'columns' as columns
      from jsonb_array_elements(p_tables) t
  loop
    v_name := format('%I.%I', v_table.schema, v_table.name);
    select t.* into v_target from rowhouse.portable_tables() t where t.relation = to_regclass(v_name);
    if v_target.relation is null then
      obstacle := case
        when to_regclass(v_name) is not null then format('table %s is not protected', v_name)
        when v_table.schema = 'rowhouse' and v_table.name ~ '^(documents|parents)_' then
          format('collection %s is missing', regexp_replace(v_table.name, '^[a-z]+_', ''))
        else format('table %s is missing', v_name) end;
      return next;
      continue;
    end if;
    if v_target.tenant_column <> v_table.tenant_column then
      obstacle := format('the tenant column of %s is %I and was %I', v_name, v_target.tenant_column, v_table.tenant_column);
      return next;
    elsif rowhouse.tenant_literal(p_tenant, v_target.column_type) is null then
      obstacle := format('the id is no %s, which the tenant column of %s is', v_target.column_type, v_name);
      return next;
    end if;
    return query
      select case
          when h.name is null then format('%s has no column %I', v_name, a.value ->> 'name')
          when a.value is null then format('%s has a column %I that the archive does not have', v_name, h.name)
          else format('column %I of %s is %s and was %s', h.name, v_name, h.type, a.value ->> 'type') end
        from jsonb_array_elements(v_table.columns) a
        full join rowhouse.portable_columns(v_target.relation, v_target.tenant_column) h on h.name = a.value ->> 'name'
        where h.name is null or a.value is null or rowhouse.plain_type(h.type) <> rowhouse.plain_type(a.value ->> 'type');
  end loop;
end
$$;

comment on function rowhouse.import_obstacles(text, jsonb) is
  'What keeps rows of these tables, as an archive describes them, from being those of the tenant here; no row when nothing does.';

create or replace function rowhouse.remove_audit_chain(p_tenant text) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  set local rowhouse.replaces_audit = on;
  delete from rowhouse.audit_signatures s where s.tenant_id = p_tenant;
  delete from rowhouse.audit_segments s where s.tenant_id = p_tenant;
  delete from rowhouse.audit_heads h where h.tenant_id = p_tenant;
  set local rowhouse.replaces_audit = off;
end
$$;

comment on function rowhouse.remove_audit_chain(text) is
  'Removes the chain of a tenant whose trail is in another database, where it goes on, before it comes back.';

create or replace function rowhouse.claim_import(p_tenant text, p_facts jsonb, p_arrives boolean) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_created boolean;
  v_status text;
  v_comes_back boolean;
  v_table text;
begin
  insert into rowhouse.tenants as t (tenant_id, name, status) values (p_tenant, p_tenant, 'importing')
    on conflict (tenant_id) do nothing;
  v_created := found;
  perform rowhouse.lock_tenant(p_tenant);
  if not v_created then
    select t.status into v_status from rowhouse.tenants t where t.tenant_id = p_tenant;
    if v_status <> 'moved' and not rowhouse.tenant_is_here(v_status) then
      perform rowhouse.check_tenant_status(p_tenant, v_status);
    end if;
    -- Only a move brings a tenant back: an archive would make a second copy of what is in the other database.
    v_comes_back := p_arrives and v_status = 'moved' and p_facts ->> 'id' = p_tenant;
    if v_status = 'moved' and not v_comes_back then
      perform rowhouse.check_tenant_status(p_tenant, v_status);
    elsif v_comes_back then
      perform rowhouse.remove_audit_chain(p_tenant);
    end if;
    -- A tenant that was provisioned for this has a trail of its own; under another id the archive's does not get in.
    select format('%s.%s', t.value ->> 'schema', t.value ->> 'name') into v_table
      from jsonb_array_elements(rowhouse.describe_tables(p_tenant, 'counts')) t
      where (t.value -> 'rows')::bigint > 0 and (p_facts ->> 'id' = p_tenant or t.value ->> 'name' not like 'audit\_%')
      limit 1;
    if v_table is not null then
      perform rowhouse.refuse_import(format('tenant "%s" exists already and has rows in %s', p_tenant, v_table),
        'Import under an id that is not in use: the import creates the tenant.');
    end if;
  end if;
  update rowhouse.tenants t
    -- Where it is until it is here is kept: the import may be called off.
    set status = 'importing', placement = case when v_comes_back then t.placement end,
      status_before = case when not v_created then v_status end, status_reason = null, updated_at = statement_timestamp(),
      name = case when v_created or v_comes_back then p_facts ->> 'name' else t.name end,
      tier = case when v_created or v_comes_back then p_facts ->> 'tier' else t.tier end,
      settings = case when v_created or v_comes_back then p_facts -> 'settings' else t.settings end,
      settings_version = case when v_created or v_comes_back then (p_facts ->> 'settingsVersion')::bigint else t.settings_version end,
      own_timeouts = case when v_created or v_comes_back then
        (select array_agg(m.value::integer order by m.place) from jsonb_array_elements_text(nullif(p_facts -> 'timeouts', 'null')) with ordinality m (value, place))
        else t.own_timeouts end
    where t.tenant_id = p_tenant;
end
$$;

comment on function rowhouse.claim_import(text, jsonb, boolean) is
  'Provisions the tenant, or takes one that has no rows, and locks it in the status importing. p_arrives: as begin_import.';

create or replace function rowhouse.begin_import(p_tenant text, p_facts jsonb, p_tables jsonb, p_arrives boolean default false) returns jsonb
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_before text[];
  v_tables jsonb;
  v_obstacles text[];
begin
  perform rowhouse.check_tenant_id(p_tenant);
  set local statement_timeout = 0;
  set local idle_in_transaction_session_timeout = 0;
  v_before := rowhouse.work_as(p_tenant, true);
  perform rowhouse.check_erasable(p_tenant);
  perform rowhouse.claim_import(p_tenant, p_facts, p_arrives);
  select coalesce(jsonb_agg(t.value), '[]') into v_tables
    from jsonb_array_elements(p_tables) t
    -- What is bound to the id is said here, not by the archive.
    where (t.value ->> 'rows')::bigint > 0 and (p_facts ->> 'id' = p_tenant or not exists (
      select from rowhouse.portable_tables() p
        where p.bound and p.relation = to_regclass(format('%I.%I', t.value ->> 'schema', t.value ->> 'name'))));
  v_obstacles := array(select o.obstacle from rowhouse.import_obstacles(p_tenant, v_tables) o);
  if v_obstacles <> '{}' then
    perform rowhouse.refuse_import('the archive does not fit this database: ' || array_to_string(v_obstacles[1:5], '; ')
      || case when cardinality(v_obstacles) > 5 then format('; and %s more', cardinality(v_obstacles) - 5) else '' end);
  end if;
  perform rowhouse.end_work(v_before);
  -- The order in which rows find those that they refer to.
  return (
    select coalesce(jsonb_agg(jsonb_build_object('schema', t.value -> 'schema', 'name', t.value -> 'name', 'place', p.place, 'together', p.together)
        order by p.place), '[]')
      from jsonb_array_elements(v_tables) t
      join rowhouse.portable_tables() p on p.relation = to_regclass(format('%I.%I', t.value ->> 'schema', t.value ->> 'name')));
exception
  when data_exception or check_violation or not_null_violation then
    perform rowhouse.refuse_import(format('the description of the tenant in the archive is not accepted: %s', sqlerrm), 'Export it again.');
end
$$;

comment on function rowhouse.begin_import(text, jsonb, jsonb, boolean) is
  'Begins an import: p_facts and p_tables are tenant and tables of begin_export. Provisions the tenant in the status importing, or takes one that has no rows, and checks that every table and column is here. Returns the tables whose rows are wanted, with their place; those of rows bound to another id are left out. p_arrives: a move, which alone may bring back a tenant that is in another database. Needs isolation level read committed. Raises RH035 (refused), RH004, RH032, RH033, RH034.';

create or replace function rowhouse.check_imported(p_tenant text, p_expected jsonb) returns jsonb
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tables jsonb := rowhouse.describe_tables(p_tenant, 'digests');
  v_other record;
begin
  select format('%I.%I', coalesce(h.value, e.value) ->> 'schema', coalesce(h.value, e.value) ->> 'name') as name, h.value ->> 'rows' as rows
    into v_other
    from (select * from jsonb_array_elements(v_tables) t where (t.value -> 'rows')::bigint > 0) h
    full join jsonb_array_elements(p_expected) e
      on (h.value -> 'schema', h.value -> 'name') = (e.value -> 'schema', e.value -> 'name')
    where (h.value -> 'rows', h.value -> 'digest') is distinct from (e.value -> 'rows', e.value -> 'digest')
      -- Under another id the trail that the tenant has here stays.
      and (e.value is not null or not (h.value -> 'bound')::boolean)
    limit 1;
  if v_other.name is not null then
    perform rowhouse.refuse_import(format('the rows of table %s are not those of the archive', v_other.name),
      'The archive was changed, or a trigger of the table changes rows, or writes them: disable it for the import. Nothing was imported.');
  end if;
  return v_tables;
end
$$;

comment on function rowhouse.check_imported(text, jsonb) is
  'Reads everything of the tenant back and compares it with the digests of the archive; raises RH035 where they differ.';

create or replace function rowhouse.finish_import(p_tenant text, p_tables jsonb, p_origin jsonb, p_opens boolean default true) returns jsonb
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_before text[];
  v_tables jsonb;
  v_hash text;
  v_state text;
  v_message text;
  v_table text;
  v_constraint text;
begin
  perform rowhouse.check_importing(p_tenant);
  v_before := rowhouse.work_as(p_tenant, true);
  -- What deferred triggers write is read back too.
  set constraints all immediate;
  if exists (select from rowhouse.import_lines l where l.tenant_id = p_tenant) then
    perform rowhouse.refuse_import('rows that refer to each other were not written yet', 'select rowhouse.import_together(...)');
  end if;
  v_tables := rowhouse.check_imported(p_tenant, p_tables);
  -- Last, because a sequence does not go back when the import fails.
  perform rowhouse.advance_sequences(p_tenant);
  v_hash := rowhouse.content_hash(v_tables);
  perform rowhouse.end_work(v_before);
  if p_opens then
    perform rowhouse.open_imported(p_tenant, p_origin || jsonb_build_object('contentHash', v_hash));
  end if;
  return jsonb_build_object('tenantId', p_tenant, 'contentHash', v_hash, 'tables', v_tables);
exception
  when integrity_constraint_violation then
    get stacked diagnostics v_state = returned_sqlstate, v_message = message_text, v_table = table_name, v_constraint = constraint_name;
    perform rowhouse.explain_import(v_state, v_message, v_table, v_constraint);
end
$$;

comment on function rowhouse.finish_import(text, jsonb, jsonb, boolean) is
  'Ends an import: reads back all rows of the tenant, compares them with rows and digests of the archive (p_tables), advances sequences, opens the tenant, and records it. p_origin: id and status in the archive. p_opens: false leaves the tenant closed, for a move. Returns what tenant_digest returns. Raises RH035; then nothing was imported.';

create or replace function rowhouse.open_imported(p_tenant text, p_origin jsonb) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  update rowhouse.tenants t
    set status = case when p_origin ->> 'status' in ('suspended', 'inactive') then p_origin ->> 'status' else 'active' end,
      placement = null, status_before = null, updated_at = statement_timestamp()
    where t.tenant_id = p_tenant and t.status = 'importing';
  perform rowhouse.record_audit(p_tenant, 'rowhouse.tenant.import', p_origin - 'status');
end
$$;

comment on function rowhouse.open_imported(text, jsonb) is 'Lets an imported tenant work, and records where it comes from.';

create or replace function rowhouse.discard_import(p_tenant text) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set lock_timeout = '60s'
as $$
declare
  v_before text[];
  v_status_before text := (select t.status_before from rowhouse.tenants t where t.tenant_id = p_tenant);
begin
  perform rowhouse.check_importing(p_tenant);
  if rowhouse.tenant_is_here(v_status_before) then
    -- It has a trail of its own, which nobody may take away.
    perform rowhouse.refuse_import(format('tenant "%s" was here before the import', p_tenant), 'Erase it: select rowhouse.erase_tenant(...).');
  end if;
  v_before := rowhouse.work_as(p_tenant, true);
  perform rowhouse.erase_everywhere(p_tenant, true);
  perform rowhouse.remove_audit_chain(p_tenant);
  perform rowhouse.end_work(v_before);
  if v_status_before = 'moved' then
    -- It is where it was, and this goes on saying so.
    update rowhouse.tenants t
      set status = 'moved', status_before = null, updated_at = statement_timestamp(), lock_key = default, name = t.tenant_id,
        settings = '{}', own_timeouts = null, partition_schema = null
      where t.tenant_id = p_tenant;
  else
    delete from rowhouse.tenants t where t.tenant_id = p_tenant;
  end if;
end
$$;

comment on function rowhouse.discard_import(text) is
  'Removes a copy that a move made here and that nobody ever worked with; its id may come again. A tenant that the move should have brought back is in the other database as before. Raises RH035 unless a move imports the tenant.';

revoke execute on function
  rowhouse.refuse_import(text, text), rowhouse.plain_type(text), rowhouse.import_obstacles(text, jsonb), rowhouse.remove_audit_chain(text),
  rowhouse.claim_import(text, jsonb, boolean), rowhouse.begin_import(text, jsonb, jsonb, boolean),
  rowhouse.check_imported(text, jsonb), rowhouse.finish_import(text, jsonb, jsonb, boolean), rowhouse.open_imported(text, jsonb),
  rowhouse.discard_import(text)
  from public;
grant execute on function
  rowhouse.begin_import(text, jsonb, jsonb, boolean), rowhouse.finish_import(text, jsonb, jsonb, boolean), rowhouse.discard_import(text)
  to rowhouse_admin;
