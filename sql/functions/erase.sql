-- Erasure: everything of one tenant, in every registered table, in one transaction, with a receipt.
--
-- The tenant's lock is taken alone: writers that began before finish first and their rows are erased, later ones wait and
-- are then refused. All rows go, or none: a table that holds the tenant and is not registered stops the erasure.
-- Depends on: context.sql, policies.sql, protect_findings.sql. Proven by: test/erase.

alter table rowhouse.erasures enable row level security, force row level security;
drop policy if exists operators_see_all on rowhouse.erasures;
create policy operators_see_all on rowhouse.erasures for select to rowhouse_admin using (true);
comment on policy operators_see_all on rowhouse.erasures is 'Receipts are for operators.';
drop policy if exists owner_all on rowhouse.erasures;
create policy owner_all on rowhouse.erasures for all to rowhouse_owner using (true) with check (true);
comment on policy owner_all on rowhouse.erasures is 'The functions of rowhouse write the receipts.';
revoke all on rowhouse.erasures from public, rowhouse_app, rowhouse_admin;
grant select on rowhouse.erasures to rowhouse_admin;

create or replace function rowhouse.lock_tenant(p_tenant text) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set lock_timeout = '60s'
as $$
begin
  perform pg_advisory_xact_lock((select t.lock_key from rowhouse.tenants t where t.tenant_id = p_tenant));
exception
  when lock_not_available then
    raise exception using errcode = 'RH032',
      message = format('transactions of tenant "%s" did not finish within 60 seconds', p_tenant),
      hint = 'Suspend the tenant, end its transactions, then try again.';
end
$$;

comment on function rowhouse.lock_tenant(text) is
  'Waits for the running writers of the tenant, then keeps new ones waiting until the transaction ends. Raises RH032 after 60 seconds.';

create or replace function rowhouse.tenant_tables(p_tenant text)
  returns table (relation regclass, condition text, readable boolean, registered boolean)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- Every table with a tenant column, registered or not: the registry alone would believe itself.
  return query
    with columns as (
      select 'tenant_id'::name as name union select p.tenant_column from rowhouse.protected_tables p
    )
    select c.oid::regclass, format('%I = %s', a.attname, rowhouse.tenant_literal(p_tenant, a.atttypid::regtype)),
        has_schema_privilege(c.relnamespace, 'usage') and has_table_privilege(c.oid, 'select'),
        p.relation is not null
      from pg_class c
      join pg_namespace n on n.oid = c.relnamespace
      join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      left join rowhouse.protected_tables p on p.relation = c.oid
      where c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence <> 't'
        and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname not like 'pg\_toast%'
        and (p.tenant_column = a.attname or (p.relation is null and a.attname in (select k.name from columns k)))
        and a.atttypid = any (array['text', 'character varying', 'uuid', 'integer', 'bigint']::regtype[])
        and not exists (select from rowhouse.exempt_tables e where e.relation = c.oid)
        and (n.nspname <> 'rowhouse' or p.relation is not null);
end
$$;

comment on function rowhouse.tenant_tables(text) is
  'Every table of the database that could hold rows of the tenant, with the condition that selects them (null: the id is no value of the column type), whether rowhouse may read it, and whether it is registered. Exempt tables and the registries of rowhouse are left out.';

create or replace function rowhouse.count_unregistered_rows(p_relation regclass, p_condition text) returns bigint
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  -- Policies of somebody else would hide rows: with this setting the query fails instead.
  set row_security = off
as $$
declare
  v_rows bigint;
begin
  execute format('select count(*) from %s where %s', p_relation, p_condition) into v_rows;
  return v_rows;
end
$$;

comment on function rowhouse.count_unregistered_rows(regclass, text) is
  'Counts rows of a table that rowhouse does not protect; fails when policies would hide some.';

create or replace function rowhouse.check_unregistered_tables(p_tenant text) returns integer
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_table record;
  v_rows bigint;
  v_checked integer := 0;
begin
  for v_table in select * from rowhouse.tenant_tables(p_tenant) t where not t.registered order by t.relation::text loop
    continue when v_table.condition is null;
    v_rows := null;
    if v_table.readable then
      begin
        v_rows := rowhouse.count_unregistered_rows(v_table.relation, v_table.condition);
      exception when insufficient_privilege then
        v_rows := null;
      end;
    end if;
    if v_rows is null then
      raise exception using errcode = 'RH030',
        message = format('table %s has a tenant column, is not registered and cannot be read, so it may hold rows of the tenant', v_table.relation),
        hint = format('select rowhouse.protect_table(%L), or declare that it holds nothing of tenants: select rowhouse.exempt_table(%L, ''<reason>'')', v_table.relation, v_table.relation);
    elsif v_rows > 0 then
      raise exception using errcode = 'RH030',
        message = format('table %s holds %s rows of the tenant and is not registered', v_table.relation, v_rows),
        hint = format('select rowhouse.protect_table(%L), or delete those rows, or declare that they stay: select rowhouse.exempt_table(%L, ''<reason>'')', v_table.relation, v_table.relation);
    end if;
    v_checked := v_checked + 1;
  end loop;
  return v_checked;
end
$$;

comment on function rowhouse.check_unregistered_tables(text) is
  'Raises RH030 when a table that is not registered holds rows of the tenant, or may and cannot be read. Returns how many were checked.';

create or replace function rowhouse.erasure_order() returns table (place integer, relations regclass[])
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_left oid[];
  v_free oid[];
begin
  select array_agg(p.relation::oid) into v_left
    from rowhouse.protected_tables p join pg_class c on c.oid = p.relation;
  place := 0;
  while coalesce(array_length(v_left, 1), 0) > 0 loop
    -- Tables that no other table left refers to. Where there is none, the rest refers to itself in a circle and goes in
    -- one statement: foreign keys are checked when the whole statement is done.
    select array_agg(l.relation order by l.relation::regclass::text) into v_free
      from unnest(v_left) l (relation)
      where not exists (
        select from pg_constraint k
          where k.contype = 'f' and k.conparentid = 0 and k.confrelid = l.relation and k.conrelid <> l.relation
            and k.conrelid = any (v_left));
    if v_free is null then
      v_free := v_left;
      place := place + 1;
      relations := v_free::regclass[];
      return next;
    else
      for v_index in 1 .. array_length(v_free, 1) loop
        place := place + 1;
        relations := array[v_free[v_index]::regclass];
        return next;
      end loop;
    end if;
    select array_agg(l.relation) into v_left from unnest(v_left) l (relation) where l.relation <> all (v_free);
  end loop;
end
$$;

comment on function rowhouse.erasure_order() is
  'The registered tables in an order in which their rows can be deleted: referring tables first, circles together.';

create or replace function rowhouse.delete_tenant_rows(p_relations regclass[], p_tenant text) returns jsonb
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_table record;
  v_deletes text[] := '{}';
  v_counts text[] := '{}';
  v_rows jsonb := '{}';
  v_count bigint;
begin
  for v_table in
    select t.relation, t.condition, row_number() over () as number
      from rowhouse.tenant_tables(p_tenant) t
      where t.registered and t.relation = any (p_relations) and t.condition is not null
  loop
    if array_length(p_relations, 1) = 1 then
      execute format('delete from %s where %s', v_table.relation, v_table.condition);
      get diagnostics v_count = row_count;
      return jsonb_build_object(v_table.relation, v_count);
    end if;
    v_deletes := v_deletes || format('d%s as (delete from %s where %s returning 1)',
      v_table.number, v_table.relation, v_table.condition);
    v_counts := v_counts || format('%L, (select count(*) from d%s)', v_table.relation, v_table.number);
  end loop;
  if v_deletes <> '{}' then
    execute format('with %s select jsonb_build_object(%s)', array_to_string(v_deletes, ', '), array_to_string(v_counts, ', '))
      into v_rows;
  end if;
  return v_rows;
end
$$;

comment on function rowhouse.delete_tenant_rows(regclass[], text) is
  'Deletes the rows of the tenant from these tables, several of them in one statement, and returns the number for each table.';

create or replace function rowhouse.count_tenant_rows(p_tenant text) returns jsonb
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_table record;
  v_count bigint;
  v_rows jsonb := '{}';
begin
  for v_table in
    select t.* from rowhouse.tenant_tables(p_tenant) t where t.registered and t.condition is not null order by t.relation::text
  loop
    execute format('select count(*) from %s where %s', v_table.relation, v_table.condition) into v_count;
    v_rows := v_rows || jsonb_build_object(v_table.relation, v_count);
  end loop;
  return v_rows;
end
$$;

comment on function rowhouse.count_tenant_rows(text) is 'The number of rows of the tenant in each registered table.';

create or replace function rowhouse.empty_own_partitions(p_tenant text) returns jsonb
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_partition record;
  v_count bigint;
  v_rows jsonb := '{}';
begin
  for v_partition in select * from rowhouse.own_partitions(p_tenant) loop
    -- Nothing refers to these rows and no trigger of the user wants to see them go.
    continue when exists (select from pg_constraint k where k.contype = 'f' and k.confrelid in (v_partition.partition, v_partition.relation))
      or exists (select from pg_trigger t where t.tgrelid = v_partition.partition and not t.tgisinternal and t.tgtype & 8 <> 0);
    execute format('select count(*) from %s', v_partition.partition) into v_count;
    execute format('truncate %s', v_partition.partition);
    v_rows := v_rows || jsonb_build_object(v_partition.relation, v_count);
  end loop;
  return v_rows;
end
$$;

comment on function rowhouse.empty_own_partitions(text) is
  'Truncates the partitions that belong to a promoted tenant alone, where no foreign key and no delete trigger forbids it. Returns the number of rows for each table.';

create or replace function rowhouse.add_counts(p_left jsonb, p_right jsonb) returns jsonb
  language sql immutable parallel safe
  return (
    select coalesce(jsonb_object_agg(k.key, k.total), '{}')
      from (
        select e.key, sum(e.value::bigint) as total
          from (select * from jsonb_each_text(p_left) union all select * from jsonb_each_text(p_right)) e
          group by e.key) k);

comment on function rowhouse.add_counts(jsonb, jsonb) is 'Adds two objects of numbers key by key.';

create or replace function rowhouse.store_receipt(p_tenant text, p_receipt jsonb) returns jsonb
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_previous record;
  v_receipt jsonb;
  v_digest bytea;
begin
  -- One receipt after another: each is chained to the one before it. Held until this transaction ends.
  lock table rowhouse.erasures in exclusive mode;
  select e.erasure_number, e.digest into v_previous from rowhouse.erasures e order by e.erasure_number desc limit 1;
  v_receipt := p_receipt || jsonb_build_object('erasureNumber', coalesce(v_previous.erasure_number, 0) + 1);
  v_digest := sha256(coalesce(v_previous.digest, ''::bytea) || convert_to(v_receipt::text, 'UTF8'));
  v_receipt := v_receipt || jsonb_build_object('auditDigest', encode(v_digest, 'hex'));
  insert into rowhouse.erasures (erasure_number, tenant_id, receipt, digest, erased_at)
    values (coalesce(v_previous.erasure_number, 0) + 1, p_tenant, v_receipt, v_digest, (p_receipt ->> 'erasedAt')::timestamptz);
  return v_receipt;
end
$$;

comment on function rowhouse.store_receipt(text, jsonb) is
  'Stores a receipt as the next of the chain and returns it with its number and digest.';

create or replace function rowhouse.verify_erasures() returns table (erasure_number bigint, tenant_id text, intact boolean)
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_row record;
  v_previous bytea := ''::bytea;
  v_expected bigint := 1;
begin
  for v_row in select e.* from rowhouse.erasures e order by e.erasure_number loop
    erasure_number := v_row.erasure_number;
    tenant_id := v_row.tenant_id;
    intact := v_row.erasure_number = v_expected
      and v_row.digest = sha256(v_previous || convert_to((v_row.receipt - 'auditDigest')::text, 'UTF8'))
      and encode(v_row.digest, 'hex') = v_row.receipt ->> 'auditDigest';
    return next;
    v_previous := v_row.digest;
    v_expected := v_row.erasure_number + 1;
  end loop;
end
$$;

comment on function rowhouse.verify_erasures() is
  'Recomputes the chain of receipts: intact is false for a receipt that was changed, or before which one is missing.';

create or replace function rowhouse.begin_erasure(p_tenant text) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform rowhouse.change_tenant_status(p_tenant, array['active', 'suspended', 'inactive'], 'erasing', 'erasure');
end
$$;

comment on function rowhouse.begin_erasure(text) is
  'Optional first step of an erasure: closes the door to the tenant at once, in a transaction of its own, so that erase_tenant finds few transactions to wait for. An erasure that was interrupted after it is resumed by calling erase_tenant.';

create or replace function rowhouse.erase_tenant(p_tenant text, p_dry_run boolean default false) returns jsonb
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_status text;
  v_started timestamptz := clock_timestamp();
  v_caller_tenant text := current_setting('app.tenant_id', true);
  v_unregistered integer;
  v_rows jsonb;
  v_pass jsonb;
  v_total bigint;
  v_residue jsonb;
  v_dropped integer;
  v_order record;
  v_constraint text;
  v_table text;
  v_receipt jsonb;
begin
  perform rowhouse.check_tenant_id(p_tenant);
  select t.status into v_status from rowhouse.tenants t where t.tenant_id = p_tenant;
  if v_status is null or v_status = 'erased' then
    perform rowhouse.check_tenant_status(p_tenant, v_status);
  end if;

  -- From here on this transaction sees what the tenant sees, and nothing else.
  execute format('set local app.tenant_id = %L', p_tenant);
  if p_dry_run then
    v_unregistered := rowhouse.check_unregistered_tables(p_tenant);
    v_rows := rowhouse.count_tenant_rows(p_tenant);
    execute format('set local app.tenant_id = %L', coalesce(v_caller_tenant, ''));
    return jsonb_build_object('tenantId', p_tenant, 'dryRun', true, 'tables', v_rows,
      'rows', (select coalesce(sum(r.value::bigint), 0) from jsonb_each_text(v_rows) r));
  end if;

  perform rowhouse.lock_tenant(p_tenant);
  update rowhouse.tenants t
    set status = 'erasing', updated_at = statement_timestamp()
    where t.tenant_id = p_tenant and t.status <> 'erased';
  if not found then
    -- Another session erased it while this one waited for the lock.
    perform rowhouse.check_tenant_status(p_tenant, 'erased');
  end if;
  v_unregistered := rowhouse.check_unregistered_tables(p_tenant);

  begin
    v_rows := rowhouse.empty_own_partitions(p_tenant);
    -- A delete trigger of the user may write rows of the tenant again (a history table), so look until nothing is left.
    for v_round in 1 .. 5 loop
      v_pass := '{}';
      for v_order in select * from rowhouse.erasure_order() o order by o.place loop
        v_pass := rowhouse.add_counts(v_pass, rowhouse.delete_tenant_rows(v_order.relations, p_tenant));
      end loop;
      v_rows := rowhouse.add_counts(v_rows, v_pass);
      exit when (select coalesce(sum(r.value::bigint), 0) from jsonb_each_text(v_pass) r) = 0;
    end loop;
  exception
    when foreign_key_violation then
      get stacked diagnostics v_constraint = constraint_name, v_table = table_name;
      raise exception using errcode = 'RH030',
        message = format('rows of table %I refer to rows of the tenant by %I, and the table is not registered', v_table, v_constraint),
        hint = format('select rowhouse.protect_table(%L), or let the foreign key delete them (on delete cascade).', v_table);
  end;

  v_residue := rowhouse.count_tenant_rows(p_tenant);
  select coalesce(sum(r.value::bigint), 0) into v_total from jsonb_each_text(v_residue) r;
  if v_total > 0 then
    raise exception using errcode = 'RH031',
      message = format('%s rows of the tenant are left in %s', v_total,
        (select string_agg(r.key, ', ') from jsonb_each_text(v_residue) r where r.value::bigint > 0));
  end if;
  v_dropped := rowhouse.drop_own_partitions(p_tenant);

  update rowhouse.tenants t
    set status = 'erased', erased_at = clock_timestamp(), updated_at = clock_timestamp(),
      name = t.tenant_id, settings = '{}', status_reason = null, partition_schema = null
    where t.tenant_id = p_tenant;

  v_receipt := jsonb_build_object(
    'tenantId', p_tenant,
    'startedAt', v_started,
    'erasedAt', clock_timestamp(),
    'erasedBy', session_user,
    'tables', v_rows,
    'rows', (select coalesce(sum(r.value::bigint), 0) from jsonb_each_text(v_rows) r),
    'partitionsDropped', v_dropped,
    'residue', jsonb_build_object(
      'rows', v_total,
      'registeredTablesChecked', (select count(*) from jsonb_object_keys(v_residue)),
      'otherTablesChecked', v_unregistered),
    'exemptTables', (
      select coalesce(jsonb_object_agg(e.relation::text, e.reason), '{}')
        from rowhouse.exempt_tables e join pg_class c on c.oid = e.relation));
  v_receipt := rowhouse.store_receipt(p_tenant, v_receipt);
  execute format('set local app.tenant_id = %L', coalesce(v_caller_tenant, ''));
  return v_receipt;
end
$$;

comment on function rowhouse.erase_tenant(text, boolean) is
  'Erases every row of the tenant in every registered table, its partitions and what the registry knows of it, in this transaction, and returns the receipt: rows for each table, the check that nothing is left, and the digest that chains it to the receipt before. p_dry_run: only counts. Raises RH002 (unknown), RH004 (erased already), RH030 (a table that is not registered holds rows of the tenant), RH031 (something kept rows alive), RH032 (writers did not finish in time); then nothing was erased.';

revoke execute on function
  rowhouse.lock_tenant(text), rowhouse.tenant_tables(text), rowhouse.count_unregistered_rows(regclass, text),
  rowhouse.check_unregistered_tables(text), rowhouse.erasure_order(), rowhouse.delete_tenant_rows(regclass[], text),
  rowhouse.count_tenant_rows(text), rowhouse.empty_own_partitions(text), rowhouse.add_counts(jsonb, jsonb),
  rowhouse.store_receipt(text, jsonb), rowhouse.verify_erasures(), rowhouse.begin_erasure(text),
  rowhouse.erase_tenant(text, boolean)
  from public;
grant execute on function
  rowhouse.begin_erasure(text), rowhouse.erase_tenant(text, boolean), rowhouse.verify_erasures()
  to rowhouse_admin;
