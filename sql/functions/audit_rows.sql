-- Row history: what was inserted, changed and deleted in a table of the user's, in the audit trail of each tenant.
--
-- One trigger for each kind of statement, which sees all its rows at once: a statement on a thousand rows adds a thousand
-- entries by one insert.
-- Depends on: audit.sql, settings.sql (settings_difference), protect.sql. Proven by: test/audit/rows.test.ts.

create or replace function rowhouse.row_key(p_row jsonb, p_columns text[]) returns jsonb
  language sql immutable parallel safe
  return (select jsonb_object_agg(c.name, p_row -> c.name) from unnest(p_columns) c (name));

comment on function rowhouse.row_key(jsonb, text[]) is 'The key columns of a row.';

create or replace function rowhouse.record_row_changes(p_operation text, p_table text, p_changes jsonb) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.current_tenant();
  v_entries jsonb;
begin
  -- Without a tenant it is a superuser restoring a dump, and what is imported has its history already. And nothing of a
  -- tenant may be left when it is erased, so its erasure is no history.
  if v_tenant is null or exists (select from rowhouse.tenants t where t.tenant_id = v_tenant and t.status in ('erasing', 'importing')) then
    return;
  end if;
  select jsonb_agg(jsonb_build_object('action', 'rowhouse.row.' || p_operation, 'detail',
      jsonb_build_object('table', p_table) || case
        when octet_length(c.value::text) > 200000 then jsonb_build_object('key', c.value -> 'key', 'tooLong', true)
        else c.value end) order by c.place)
    into v_entries
    from jsonb_array_elements(p_changes) with ordinality c (value, place);
  set local rowhouse.audits_lifecycle = off;
  perform rowhouse.write_audit(v_tenant, v_entries);
end
$$;

comment on function rowhouse.record_row_changes(text, text, jsonb) is
  'Records changes of rows of the tenant of the transaction; of a row of more than 200 KB the key only.';

create or replace function rowhouse.audit_rows() returns trigger
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_key text[] := tg_argv[0];
  v_except text[] := tg_argv[1];
  v_changes jsonb;
begin
  if tg_op = 'UPDATE' then
    select jsonb_agg(jsonb_build_object('key', rowhouse.row_key(coalesce(n.data, o.data), v_key),
        'changes', rowhouse.settings_difference(coalesce(o.data, '{}'), coalesce(n.data, '{}'))))
      into v_changes
      from (select to_jsonb(r) - v_except as data from old_rows r) o
      full join (select to_jsonb(r) - v_except as data from new_rows r) n
        on rowhouse.row_key(n.data, v_key) = rowhouse.row_key(o.data, v_key)
      where o.data is distinct from n.data;
  elsif tg_op = 'INSERT' then
    select jsonb_agg(jsonb_build_object('key', rowhouse.row_key(to_jsonb(r), v_key), 'row', to_jsonb(r) - v_except))
      into v_changes from new_rows r;
  else
    select jsonb_agg(jsonb_build_object('key', rowhouse.row_key(to_jsonb(r), v_key), 'row', to_jsonb(r) - v_except))
      into v_changes from old_rows r;
  end if;
  if v_changes is not null then
    perform rowhouse.record_row_changes(lower(tg_op), format('%s.%s', tg_table_schema, tg_table_name), v_changes);
  end if;
  return null;
end
$$;

comment on function rowhouse.audit_rows() is
  'Trigger of tables whose history is kept. Arguments: the key columns, and columns that are left out.';

create or replace function rowhouse.audit_table(p_table regclass, p_except name[] default '{}') returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_key text[];
  v_unknown text;
  v_event record;
begin
  if not exists (select from rowhouse.protected_tables t where t.relation = p_table) then
    raise exception using errcode = 'RH011', message = format('%s is not protected', p_table),
      hint = format('The history of a row belongs to its tenant: select rowhouse.protect_table(%L)', p_table);
  end if;
  select array_agg(a.attname::text order by array_position(i.indkey::smallint[], a.attnum)) into v_key
    from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
    where i.indrelid = p_table and i.indisprimary;
  if v_key is null then
    raise exception using errcode = 'RH010', message = format('%s has no primary key, so its rows have no history', p_table);
  end if;
  select string_agg(quote_ident(e.name), ', ') into v_unknown
    from unnest(p_except) e (name)
    where e.name = any (v_key) or not exists (select from pg_attribute a
      where a.attrelid = p_table and a.attname = e.name and a.attnum > 0 and not a.attisdropped);
  if v_unknown is not null then
    raise exception using errcode = 'undefined_column', message = format('%s has no such column besides its key: %s', p_table, v_unknown);
  end if;
  for v_event in
    select * from (values ('insert', 'new table as new_rows'), ('update', 'old table as old_rows new table as new_rows'),
      ('delete', 'old table as old_rows')) e (name, rows)
  loop
    execute format('create or replace trigger %I after %s on %s referencing %s for each statement '
      'execute function rowhouse.audit_rows(%L, %L)',
      'rowhouse_history_' || v_event.name, v_event.name, p_table, v_event.rows, v_key, p_except::text[]);
  end loop;
end
$$;

comment on function rowhouse.audit_table(regclass, name[]) is
  'Keeps the history of a protected table: every inserted, changed and deleted row becomes an entry in the audit trail of its tenant, in the same transaction. p_except: columns whose values are not recorded. Run by the owner of the table. Raises RH011 (not protected), RH010 (no primary key).';

create or replace function rowhouse.unaudit_table(p_table regclass) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_event text;
begin
  foreach v_event in array array['insert', 'update', 'delete'] loop
    execute format('drop trigger if exists %I on %s', 'rowhouse_history_' || v_event, p_table);
  end loop;
end
$$;

comment on function rowhouse.unaudit_table(regclass) is 'Ends the history of a table; what was recorded stays.';

revoke execute on function
  rowhouse.row_key(jsonb, text[]), rowhouse.record_row_changes(text, text, jsonb), rowhouse.audit_rows(),
  rowhouse.audit_table(regclass, name[]), rowhouse.unaudit_table(regclass)
  from public;
grant execute on function rowhouse.audit_rows(), rowhouse.audit_table(regclass, name[]), rowhouse.unaudit_table(regclass)
  to rowhouse_admin;
