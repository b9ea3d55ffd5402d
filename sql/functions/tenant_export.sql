-- Export: every row of one tenant as a line of JSON, and digests that say whether two tenants hold the same.
--
-- A line is an array of the values of a row as Postgres prints them, by the names of the columns, without the tenant: so
-- it reads the same under another id, and can't name another tenant. Lines are sorted byte by byte, and a table's digest
-- is folded over them: digest = sha256(digest before || line), from 32 zeros on. Generated columns are left out: they
-- follow from the others.
-- All functions see the tenant as its policies show it. They read the registry that erasure reads.
-- Depends on: erase.sql (erasure_order), erase_checks.sql, locks.sql. Proven by: test/portability.

create or replace function rowhouse.portable_tables() returns table (
  place integer, relation regclass, tenant_column name, column_type regtype, bound boolean, together boolean
)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_self_referring oid[] := array(
    select coalesce(pg_partition_root(k.conrelid), k.conrelid) from pg_constraint k
      where k.contype = 'f' and k.conparentid = 0
        and coalesce(pg_partition_root(k.conrelid), k.conrelid) = coalesce(pg_partition_root(k.confrelid), k.confrelid));
begin
  return query
    select -o.place, p.relation, p.tenant_column, p.column_type,
        p.relation = any (array['rowhouse.api_keys', 'rowhouse.credential_keys', 'rowhouse.credentials',
          'rowhouse.audit_entries']::regclass[]),
        -- Rows that refer to rows of their own table, or of a circle of tables, are written by one statement.
        array_length(o.relations, 1) > 1 or p.relation = any (v_self_referring)
      from rowhouse.erasure_order() o, unnest(o.relations) r (relation)
      join rowhouse.protected_tables p on p.relation = r.relation
      where p.relation <> all (array['rowhouse.rate_limit_counters', 'rowhouse.queue_requests',
        'rowhouse.denials', 'rowhouse.import_lines']::regclass[])
    union all
    -- The chain of the audit trail: no rows of the application, so not registered. Signatures refer to segments.
    select c.place, c.relation, 'tenant_id'::name, 'text'::regtype, true, false
      from (values (1, 'rowhouse.audit_pending'::regclass), (2, 'rowhouse.audit_segments'), (3, 'rowhouse.audit_heads'),
        (4, 'rowhouse.audit_signatures')) c (place, relation);
end
$$;

comment on function rowhouse.portable_tables() is
  'The tables whose rows move with a tenant; place orders them, referred tables first. bound: its rows are of no use under another id. together: its rows are written by one statement, with those of the same place. Left out are counters of rate limits, requests that wait in queues and when denials were recorded: they belong to the moment.';

create or replace function rowhouse.portable_columns(p_relation regclass, p_tenant_column name)
  returns table (name name, type text, insert_type text)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    -- -1: the name of the type without its length, under which a text that is too long is an error and not cut.
    select a.attname, format_type(a.atttypid, a.atttypmod), format_type(a.atttypid, -1)
      from pg_attribute a
      where a.attrelid = p_relation and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
        and a.attname <> p_tenant_column
        -- Put together from other rows, by the limits of one database.
        and not (p_relation = 'rowhouse.accounts'::regclass and a.attname = 'terms')
      order by a.attname collate "C";
end
$$;

comment on function rowhouse.portable_columns(regclass, name) is
  'The columns that a line holds, in their order: all but the tenant, generated ones and the terms of accounts.';

create or replace function rowhouse.lines_statement(p_tenant text, p_relation regclass) returns text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_table record;
  v_values text;
begin
  select t.*, rowhouse.tenant_literal(p_tenant, t.column_type) as literal into v_table
    from rowhouse.portable_tables() t where t.relation = p_relation;
  -- By concat, which prints a value as its type does: a cast to text may be somebody's own, and lose something. Not
  -- "is null", which holds for a composite value of nulls as well.
  select string_agg(format('case when num_nulls(t.%1$I) = 0 then concat(t.%1$I) end', c.name), ', ' order by c.name collate "C")
    into v_values
    from rowhouse.portable_columns(p_relation, v_table.tenant_column) c;
  return format('select l.line from (select to_json(array[%s]::text[])::text as line from %s t where %s) l order by l.line collate "C"',
    v_values, p_relation, coalesce(format('t.%I = %s', v_table.tenant_column, v_table.literal), 'false'));
end
$$;

comment on function rowhouse.lines_statement(text, regclass) is 'The query for the lines of a tenant in a table, sorted.';

create or replace function rowhouse.portable_relation(p_schema text, p_name text) returns regclass
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_relation regclass := to_regclass(format('%I.%I', p_schema, p_name));
begin
  if v_relation is null or not exists (select from rowhouse.portable_tables() t where t.relation = v_relation) then
    raise exception using errcode = 'RH035', message = format('%I.%I is no table whose rows move with a tenant', p_schema, p_name);
  end if;
  return v_relation;
end
$$;

comment on function rowhouse.portable_relation(text, text) is 'The table of this name; raises RH035 when its rows do not move with a tenant.';

-- The settings say how values are printed: exactly, and the same on every server.
create or replace function rowhouse.table_digest(p_tenant text, p_relation regclass, out row_count bigint, out digest bytea)
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set datestyle = 'ISO, YMD' set intervalstyle = postgres set timezone = 'UTC' set bytea_output = hex
  set extra_float_digits = 1 set lc_monetary = 'C'
as $$
declare
  v_line text;
begin
  row_count := 0;
  digest := decode(repeat('00', 32), 'hex');
  for v_line in execute rowhouse.lines_statement(p_tenant, p_relation) loop
    row_count := row_count + 1;
    digest := sha256(digest || convert_to(v_line, 'UTF8'));
  end loop;
end
$$;

comment on function rowhouse.table_digest(text, regclass) is
  'Number and digest of the lines of a tenant in a table; reads as the tenant of the transaction.';

create or replace function rowhouse.content_hash(p_tables jsonb) returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  return encode(sha256(convert_to(coalesce((
    select string_agg(jsonb_build_array(t.value -> 'schema', t.value -> 'name',
        (select jsonb_agg(c.value -> 'name' order by c.place) from jsonb_array_elements(t.value -> 'columns') with ordinality c (value, place)),
        t.value -> 'rows', t.value -> 'digest')::text, E'\n'
        order by t.value ->> 'schema' collate "C", t.value ->> 'name' collate "C")
      from jsonb_array_elements(p_tables) t
      where not (t.value -> 'bound')::boolean and (t.value -> 'rows')::bigint > 0), ''), 'UTF8')), 'hex');
end
$$;

comment on function rowhouse.content_hash(jsonb) is
  'SHA-256 over name, columns, rows and digest of each table that holds something, except those whose rows are bound to the id: two tenants with equal content have the same, under whatever id and in whatever database.';

create or replace function rowhouse.describe_tables(p_tenant text, p_with text) returns jsonb
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_table record;
  v_rows bigint;
  v_digest bytea;
  v_tables jsonb := '[]';
begin
  for v_table in
    select t.*, n.nspname, c.relname, rowhouse.tenant_literal(p_tenant, t.column_type) as literal
      from rowhouse.portable_tables() t join pg_class c on c.oid = t.relation join pg_namespace n on n.oid = c.relnamespace
      order by t.place, n.nspname collate "C", c.relname collate "C"
  loop
    if p_with = 'digests' then
      select d.row_count, d.digest into v_rows, v_digest from rowhouse.table_digest(p_tenant, v_table.relation) d;
    else
      execute format('select count(*) from %s where %s', v_table.relation,
        coalesce(format('%I = %s', v_table.tenant_column, v_table.literal), 'false')) into v_rows;
    end if;
    v_tables := v_tables || (jsonb_build_object('schema', v_table.nspname, 'name', v_table.relname, 'bound', v_table.bound,
        'tenantColumn', v_table.tenant_column, 'rows', v_rows, 'columns', (
          select coalesce(jsonb_agg(jsonb_build_object('name', c.name, 'type', c.type) order by c.name collate "C"), '[]')
            from rowhouse.portable_columns(v_table.relation, v_table.tenant_column) c))
      || case when v_digest is null then '{}' else jsonb_build_object('digest', encode(v_digest, 'hex')) end);
  end loop;
  return v_tables;
end
$$;

comment on function rowhouse.describe_tables(text, text) is
  'The tables of portable_tables with columns and number of rows of the tenant, p_with digests also with their digests; reads as the tenant of the transaction.';

create or replace function rowhouse.tenant_digest(p_tenant text) returns jsonb
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_status text;
  v_before text[];
  v_tables jsonb;
begin
  perform rowhouse.check_tenant_id(p_tenant);
  select t.status into v_status from rowhouse.tenants t where t.tenant_id = p_tenant;
  if v_status is null or v_status in ('erased', 'moved') then
    perform rowhouse.check_tenant_status(p_tenant, v_status);
  end if;
  perform rowhouse.hold_rows(p_tenant);
  v_before := rowhouse.work_as(p_tenant, false);
  v_tables := rowhouse.describe_tables(p_tenant, 'digests');
  perform rowhouse.end_work(v_before);
  return jsonb_build_object('tenantId', p_tenant, 'contentHash', rowhouse.content_hash(v_tables), 'tables', v_tables);
end
$$;

comment on function rowhouse.tenant_digest(text) is
  'Number and digest of the rows of a tenant in every table, and the hash of its content. In repeatable read, of one moment. Raises RH002, RH004, RH033 (its rows are moved to other partitions), RH034.';

create or replace function rowhouse.begin_export(p_tenant text) returns jsonb
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant rowhouse.tenants;
  v_before text[];
  v_tables jsonb;
begin
  if current_setting('transaction_isolation') not in ('repeatable read', 'serializable') then
    raise exception using errcode = 'invalid_transaction_state', message = 'a tenant is exported in isolation level repeatable read',
      hint = 'All tables are read as they were at one moment: begin isolation level repeatable read read only';
  end if;
  perform rowhouse.check_tenant_id(p_tenant);
  select t.* into v_tenant from rowhouse.tenants t where t.tenant_id = p_tenant;
  if v_tenant.status is distinct from 'moving' and not rowhouse.tenant_is_here(v_tenant.status) then
    perform rowhouse.check_tenant_status(p_tenant, v_tenant.status);
  end if;
  perform rowhouse.hold_rows(p_tenant);
  -- Whoever writes the archive may be slow.
  set local statement_timeout = 0;
  set local idle_in_transaction_session_timeout = 0;
  v_before := rowhouse.work_as(p_tenant, false);
  -- What an erasure would miss, an export would miss too.
  perform rowhouse.check_erasable(p_tenant);
  v_tables := rowhouse.describe_tables(p_tenant, 'counts');
  perform rowhouse.end_work(v_before);
  return jsonb_build_object(
    'exportedAt', transaction_timestamp(),
    'tenant', jsonb_build_object('id', p_tenant, 'name', v_tenant.name, 'tier', v_tenant.tier, 'status', coalesce(v_tenant.status_before, v_tenant.status),
      'settings', v_tenant.settings, 'settingsVersion', v_tenant.settings_version, 'timeouts', v_tenant.own_timeouts,
      'promoted', v_tenant.partition_schema is not null),
    'tables', v_tables);
end
$$;

comment on function rowhouse.begin_export(text) is
  'Begins to read a tenant as it is at this moment: its row in the registry, and its tables with columns and number of rows. In a transaction of isolation level repeatable read. Raises RH002, RH004, RH030 (a table may hold rows that an export would not see), RH033, RH034.';

create or replace function rowhouse.open_export(p_tenant text, p_schema text, p_name text) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_cursor refcursor := 'rowhouse_export';
  v_before text[];
begin
  perform rowhouse.check_tenant_id(p_tenant);
  v_before := rowhouse.work_as(p_tenant, false);
  open v_cursor for execute rowhouse.lines_statement(p_tenant, rowhouse.portable_relation(p_schema, p_name));
  perform rowhouse.end_work(v_before);
end
$$;

comment on function rowhouse.open_export(text, text, text) is 'Opens a cursor over the lines of a tenant in a table, for fetch_export.';

create or replace function rowhouse.fetch_export(p_tenant text, p_bytes integer) returns setof text
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set datestyle = 'ISO, YMD' set intervalstyle = postgres set timezone = 'UTC' set bytea_output = hex
  set extra_float_digits = 1 set lc_monetary = 'C'
as $$
declare
  v_cursor refcursor := 'rowhouse_export';
  v_before text[] := rowhouse.work_as(p_tenant, false);
  v_line text;
  v_bytes bigint := 0;
begin
  while v_bytes < p_bytes loop
    fetch v_cursor into v_line;
    if not found then
      close v_cursor;
      exit;
    end if;
    v_bytes := v_bytes + octet_length(v_line) + 1;
    return next v_line;
  end loop;
  perform rowhouse.end_work(v_before);
end
$$;

comment on function rowhouse.fetch_export(text, integer) is
  'The next lines of the cursor of open_export, until there are this many bytes of them. Fewer bytes: the cursor came to its end and is closed.';

revoke execute on function
  rowhouse.portable_tables(), rowhouse.portable_columns(regclass, name), rowhouse.lines_statement(text, regclass),
  rowhouse.portable_relation(text, text), rowhouse.table_digest(text, regclass), rowhouse.content_hash(jsonb),
  rowhouse.describe_tables(text, text), rowhouse.tenant_digest(text), rowhouse.begin_export(text),
  rowhouse.open_export(text, text, text), rowhouse.fetch_export(text, integer)
  from public;
grant execute on function
  rowhouse.content_hash(jsonb), rowhouse.tenant_digest(text), rowhouse.begin_export(text),
  rowhouse.open_export(text, text, text), rowhouse.fetch_export(text, integer)
  to rowhouse_admin;
