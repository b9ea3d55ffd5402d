-- Residue: what an erasure left in the database, wherever it is.
--
-- An erasure checks every table that has a tenant column. This looks everywhere else too: an id in a log table, a name
-- in a JSON document, a value that the planner remembers. It reads with the rights of the caller, because nobody else's
-- would be wide enough: the owner of the database sees most, a superuser everything.
-- Depends on: erase.sql, locks.sql. Proven by: test/erase/residue.test.ts.

create or replace function rowhouse.rows_of_tenant(p_tenant text) returns jsonb
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_before text[];
  v_rows jsonb;
begin
  perform rowhouse.check_tenant_id(p_tenant);
  perform rowhouse.hold_rows(p_tenant);
  v_before := rowhouse.work_as(p_tenant, false);
  v_rows := rowhouse.count_tenant_rows(p_tenant);
  perform rowhouse.end_work(v_before);
  return v_rows;
end
$$;

comment on function rowhouse.rows_of_tenant(text) is
  'How many rows a tenant has in each registered table, erased or not. Raises RH006, RH034 (in another database).';

create or replace function rowhouse.residue_condition(p_tenant text, p_texts text[], p_value text) returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_conditions text[] := '{}';
  v_text text;
begin
  if p_tenant is not null then
    v_conditions := array[format('%s ~ %L', p_value, format('(^|[^a-zA-Z0-9_-])%s($|[^a-zA-Z0-9_-])', p_tenant))];
  end if;
  foreach v_text in array p_texts loop
    -- In bytes as well, which are printed in hexadecimal, and as JSON escapes it.
    v_conditions := v_conditions || format('strpos(%1$s, %2$L) > 0 or strpos(%1$s, %3$L) > 0 or strpos(%1$s, %4$L) > 0', p_value,
      v_text, encode(convert_to(v_text, 'UTF8'), 'hex'), btrim(to_json(v_text)::text, '"'));
  end loop;
  return coalesce(nullif(array_to_string(v_conditions, ' or '), ''), 'false');
end
$$;

comment on function rowhouse.residue_condition(text, text[], text) is
  'SQL that says whether the text expression p_value holds the id as a word of its own (null: it may), or one of the texts.';

create or replace function rowhouse.find_residue(p_tenant text, p_texts text[] default '{}')
  returns table (object text, matches bigint, note text)
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set bytea_output = hex
as $$
declare
  -- They name the tenant as evidence of its erasure.
  v_evidence regclass[] := array['rowhouse.tenants', 'rowhouse.erasures', 'rowhouse.audit_heads', 'rowhouse.audit_segments',
    'rowhouse.audit_signatures']::regclass[];
  v_rows jsonb := rowhouse.rows_of_tenant(p_tenant);
  v_relation record;
  v_place record;
begin
  for v_relation in
    select c.oid::regclass as relation, c.relkind, row_security_active(c.oid) as is_bound,
        has_schema_privilege(c.relnamespace, 'usage') and has_table_privilege(c.oid, 'select') as is_readable,
        case when c.oid = any (v_evidence) then null else p_tenant end as id,
        -- By concat, which prints a value as its type does.
        (select 'array_to_string(array[' || string_agg(format('concat(t.%I)', a.attname), ', ' order by a.attnum) || '], E''\n'')'
          from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) as value
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.relkind in ('r', 'p', 'm', 'f') and not c.relispartition
        and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname not like 'pg\_toast%' and n.nspname not like 'pg\_temp%'
      order by c.oid::regclass::text
  loop
    continue when v_relation.value is null;
    object := v_relation.relation::text;
    matches := nullif((v_rows ->> object)::bigint, 0);
    if matches > 0 then
      note := 'rows of the tenant';
      return next;
      continue;
    end if;
    matches := null;
    if v_relation.relkind = 'f' then
      note := 'not looked through: a foreign table, whose rows are elsewhere';
    elsif not v_relation.is_readable then
      note := format('not looked through: %I may not read it', current_user);
    elsif v_relation.is_bound then
      note := format('holds no row of the tenant; not looked through for mentions, which row-level security hides from %I', current_user);
    else
      begin
        execute format('select count(*) from %s t where %s', v_relation.relation,
          rowhouse.residue_condition(v_relation.id, p_texts, v_relation.value)) into matches;
        note := 'rows that mention the tenant';
      exception
        when insufficient_privilege or undefined_table or object_not_in_prerequisite_state then
          matches := null;
          note := format('not looked through: %s', sqlerrm);
      end;
    end if;
    if matches is distinct from 0 then
      return next;
    end if;
  end loop;

  for v_place in
    select * from (values
      ('large objects', 'pg_catalog.pg_largeobject t', 'encode(t.data, ''hex'')', true, 'pages of large objects that hold it'),
      ('statistics of the planner', 'pg_catalog.pg_stats t', 'concat_ws(E''\n'', t.most_common_vals, t.histogram_bounds, t.most_common_elems)',
        false, 'columns whose values it remembers; analyze forgets those that are gone'),
      ('comments', 'pg_catalog.pg_description t', 't.description', false, 'comments on objects'),
      ('settings', 'pg_catalog.pg_db_role_setting t', 'array_to_string(t.setconfig, E''\n'')', false, 'settings of roles and databases'),
      ('names', 'pg_catalog.pg_class t join pg_catalog.pg_namespace n on n.oid = t.relnamespace', 'concat_ws(E''\n'', n.nspname, t.relname)',
        false, 'tables and schemas that are named like it')) p (place, source, value, bytes, meaning)
  loop
    object := v_place.place;
    begin
      execute format('select count(*) from %s where %s and (%s) or %s', v_place.source,
        case v_place.place when 'statistics of the planner'
          then format('to_regclass(format(''%%I.%%I'', t.schemaname, t.tablename)) <> all (%L::regclass[])', v_evidence) else 'true' end,
        rowhouse.residue_condition(case when not v_place.bytes then p_tenant end, case when v_place.bytes then array[p_tenant] else '{}' end, v_place.value),
        rowhouse.residue_condition(null, p_texts, v_place.value)) into matches;
      note := v_place.meaning;
    exception
      when insufficient_privilege then
        matches := null;
        note := format('not looked through: %I may not read them', current_user);
    end;
    -- Nothing to look through is nothing to report.
    if matches is distinct from 0 and not (matches is null and v_place.bytes and not exists (select from pg_largeobject_metadata)) then
      return next;
    end if;
  end loop;
end
$$;

comment on function rowhouse.find_residue(text, text[]) is
  'Where the id of a tenant, as a word of its own, or one of these texts is found in the database, with the number of rows; matches null: where it could not be looked for. No row: nothing is left. Reads everything, with the rights of the caller. The registry, receipts and the chain of the audit trail may name the id. Raises RH006, RH034.';

revoke execute on function
  rowhouse.rows_of_tenant(text), rowhouse.residue_condition(text, text[], text), rowhouse.find_residue(text, text[])
  from public;
grant execute on function
  rowhouse.rows_of_tenant(text), rowhouse.residue_condition(text, text[], text), rowhouse.find_residue(text, text[])
  to rowhouse_admin;
