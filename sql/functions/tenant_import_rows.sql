-- Rows of an import: lines of an archive become rows of the tenant, and sequences go on behind them.
--
-- Rows that refer to rows of their own table, or of a circle of tables, are kept until all of them are there, and then
-- written by one statement: foreign keys are checked when it is done.
-- Depends on: tenant_export.sql, tenant_import.sql. Proven by: test/portability.

create or replace function rowhouse.insert_from_lines(p_tenant text, p_relation regclass, p_lines text) returns text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_table record;
  v_names text;
  v_values text;
begin
  select t.*, rowhouse.tenant_literal(p_tenant, t.column_type) as literal into v_table
    from rowhouse.portable_tables() t where t.relation = p_relation;
  select string_agg(format(', %I', c.name), '' order by c.place),
      string_agg(format(', (l.line ->> %s)::%s', c.place - 1, c.insert_type), '' order by c.place)
    into v_names, v_values
    from rowhouse.portable_columns(p_relation, v_table.tenant_column) with ordinality c (name, type, insert_type, place);
  return format('insert into %s (%I%s) overriding system value select %s%s from (%s) l',
    p_relation, v_table.tenant_column, v_names, v_table.literal, v_values, p_lines);
end
$$;

comment on function rowhouse.insert_from_lines(text, regclass, text) is
  'The statement that writes rows from lines; p_lines: the query for them, as column line of type jsonb.';

create or replace function rowhouse.explain_import(p_state text, p_message text, p_table text, p_constraint text) returns void
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- Without values: the row that is in the way may be another tenant's.
  perform rowhouse.refuse_import(
    case p_state
      when '23505' then format('a row of table %s has a key that is taken: %I', p_table, p_constraint)
      when '23503' then format('rows of table %s refer to something that is not here: %I', p_table, p_constraint)
      when '23514' then format('a row of table %s breaks the constraint %I', p_table, p_constraint)
      else format('a row of table %s is not accepted (%s): %s', p_table, p_state, p_message) end,
    case p_state
      when '23505' then 'A key without the tenant holds for all tenants of a database, and numbers of one sequence meet: let the key contain the tenant, or import where nothing else is. Nothing was imported.'
      when '23503' then 'Bring the rows that tenants share, such as quotas, into this database first. Nothing was imported.'
    end);
end
$$;

comment on function rowhouse.explain_import(text, text, text, text) is 'Raises RH035 for what Postgres said about a row.';

create or replace function rowhouse.check_importing(p_tenant text) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform rowhouse.check_tenant_id(p_tenant);
  perform rowhouse.lock_tenant(p_tenant);
  if not exists (select from rowhouse.tenants t where t.tenant_id = p_tenant and t.status = 'importing') then
    perform rowhouse.refuse_import(format('no import of tenant "%s" was begun', p_tenant), 'select rowhouse.begin_import(...)');
  end if;
end
$$;

comment on function rowhouse.check_importing(text) is 'Raises RH035 unless the tenant is being imported, and takes its lock.';

create or replace function rowhouse.import_rows(p_tenant text, p_schema text, p_name text, p_lines text, p_together boolean) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set datestyle = 'ISO, YMD' set intervalstyle = postgres set timezone = 'UTC' set lc_monetary = 'C'
as $$
declare
  v_relation regclass := rowhouse.portable_relation(p_schema, p_name);
  v_before text[];
  v_state text;
  v_message text;
  v_table text;
  v_constraint text;
begin
  perform rowhouse.check_importing(p_tenant);
  v_before := rowhouse.work_as(p_tenant, true);
  if p_together then
    insert into rowhouse.import_lines (tenant_id, relation, line)
      select p_tenant, v_relation, l.line::jsonb from string_to_table(p_lines, E'\n') l (line);
  else
    execute format('set local search_path = %s', rowhouse.search_path_for(array[v_relation]));
    execute rowhouse.insert_from_lines(p_tenant, v_relation, 'select s.line::jsonb as line from string_to_table($1, E''\n'') s (line)')
      using p_lines;
  end if;
  perform rowhouse.end_work(v_before);
exception
  when integrity_constraint_violation or data_exception or insufficient_privilege or undefined_function or undefined_table then
    get stacked diagnostics v_state = returned_sqlstate, v_message = message_text, v_table = table_name, v_constraint = constraint_name;
    perform rowhouse.explain_import(v_state, v_message, coalesce(nullif(v_table, ''), p_name), v_constraint);
end
$$;

comment on function rowhouse.import_rows(text, text, text, text, boolean) is
  'Writes rows of the tenant into a table: lines of an archive, each ended by a line feed but the last. p_together: they are kept until import_together. After begin_import, in the same transaction. Raises RH035.';

create or replace function rowhouse.import_together(p_tenant text) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set datestyle = 'ISO, YMD' set intervalstyle = postgres set timezone = 'UTC' set lc_monetary = 'C'
as $$
declare
  v_relations regclass[];
  v_inserts text;
  v_before text[];
  v_state text;
  v_message text;
  v_table text;
  v_constraint text;
begin
  perform rowhouse.check_importing(p_tenant);
  v_before := rowhouse.work_as(p_tenant, true);
  v_relations := array(select distinct l.relation from rowhouse.import_lines l where l.tenant_id = p_tenant);
  if v_relations <> '{}' then
    select string_agg(format('i%s as (%s)', r.number, rowhouse.insert_from_lines(p_tenant, r.relation,
        format('select s.line from rowhouse.import_lines s where s.tenant_id = %L and s.relation = %s', p_tenant, r.relation::oid))), ', ')
      into v_inserts
      from unnest(v_relations) with ordinality r (relation, number);
    execute format('set local search_path = %s', rowhouse.search_path_for(v_relations));
    -- Foreign keys are checked when the whole statement is done.
    execute format('with %s select', v_inserts);
    delete from rowhouse.import_lines l where l.tenant_id = p_tenant;
  end if;
  perform rowhouse.end_work(v_before);
exception
  when integrity_constraint_violation or data_exception or insufficient_privilege or undefined_function or undefined_table then
    get stacked diagnostics v_state = returned_sqlstate, v_message = message_text, v_table = table_name, v_constraint = constraint_name;
    perform rowhouse.explain_import(v_state, v_message, coalesce(nullif(v_table, ''), array_to_string(v_relations, ', ')), v_constraint);
end
$$;

comment on function rowhouse.import_together(text) is
  'Writes the rows that import_rows kept, of all their tables by one statement, so that they find each other. Raises RH035.';

create or replace function rowhouse.advance_sequences(p_tenant text) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_sequence record;
  v_highest bigint;
  v_last bigint;
begin
  for v_sequence in
    select t.relation, t.tenant_column, rowhouse.tenant_literal(p_tenant, t.column_type) as literal, a.attname, s.oid::regclass as sequence,
        q.seqmax
      from rowhouse.portable_tables() t
      join pg_depend d on d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = t.relation
        and d.deptype in ('a', 'i') and d.refobjsubid > 0
      join pg_class s on s.oid = d.objid and s.relkind = 'S'
      join pg_sequence q on q.seqrelid = s.oid and q.seqincrement > 0
      join pg_attribute a on a.attrelid = t.relation and a.attnum = d.refobjsubid
      where rowhouse.tenant_literal(p_tenant, t.column_type) is not null
  loop
    execute format('select max(t.%I) from %s t where t.%I = %s', v_sequence.attname, v_sequence.relation,
      v_sequence.tenant_column, v_sequence.literal) into v_highest;
    continue when v_highest is null;
    if not (has_sequence_privilege(v_sequence.sequence, 'usage') and has_sequence_privilege(v_sequence.sequence, 'update')) then
      perform rowhouse.refuse_import(format('sequence %s may not be advanced behind the numbers of the archive', v_sequence.sequence),
        format('select rowhouse.protect_table(%L)', v_sequence.relation));
    end if;
    v_last := coalesce(pg_sequence_last_value(v_sequence.sequence), 0);
    continue when v_last >= v_highest;
    -- Tenants share the sequence, and it never goes back.
    if v_highest - v_last > (v_sequence.seqmax - v_last) / 2 then
      perform rowhouse.refuse_import(format('the numbers of the archive would use up sequence %s', v_sequence.sequence),
        'Its rows are numbered higher than anything that this database could give out for long.');
    end if;
    -- Others may draw from it now. One by one where they could overtake, because a sequence must never go back.
    if v_highest - v_last <= 10000 then
      while v_last < v_highest loop
        v_last := nextval(v_sequence.sequence);
      end loop;
    else
      perform setval(v_sequence.sequence, v_highest);
    end if;
  end loop;
end
$$;

comment on function rowhouse.advance_sequences(text) is
  'Lets sequences of serial and identity columns go on behind the numbers of the tenant''s rows.';

revoke execute on function
  rowhouse.insert_from_lines(text, regclass, text), rowhouse.explain_import(text, text, text, text), rowhouse.check_importing(text),
  rowhouse.import_rows(text, text, text, text, boolean), rowhouse.import_together(text), rowhouse.advance_sequences(text)
  from public;
grant execute on function rowhouse.import_rows(text, text, text, text, boolean), rowhouse.import_together(text)
  to rowhouse_admin;
