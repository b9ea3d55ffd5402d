-- Erasure: everything of one tenant, in every registered table, in one transaction, with a receipt.
--
-- The tenant's lock is taken alone: writers that began before finish first and their rows are erased, later ones wait and
-- are then refused. All rows go, or none: a table that holds the tenant and is not registered stops the erasure.
-- Depends on: erase_checks.sql, erase_receipts.sql, locks.sql, promote.sql, audit_chain.sql, progress.sql. Proven by: test/erase.

create or replace function rowhouse.erasure_order() returns table (place integer, relations regclass[])
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_referring oid[];
  v_referred oid[];
  v_left oid[];
  v_free oid[];
begin
  select array_agg(p.relation::oid order by p.relation::text) into v_left
    from rowhouse.protected_tables p join pg_class c on c.oid = p.relation;
  -- A foreign key of or to a partition is one of its table.
  select array_agg(k.referring), array_agg(k.referred) into v_referring, v_referred
    from (
      select distinct coalesce(pg_partition_root(c.conrelid), c.conrelid)::oid as referring,
          coalesce(pg_partition_root(c.confrelid), c.confrelid)::oid as referred
        from pg_constraint c where c.contype = 'f' and c.conparentid = 0) k
    where k.referring <> k.referred and k.referring = any (v_left) and k.referred = any (v_left);
  place := 0;
  while coalesce(array_length(v_left, 1), 0) > 0 loop
    -- Tables that no other table left refers to. Where there is none, the rest refers to itself in a circle and goes in
    -- one statement: foreign keys are checked when the whole statement is done.
    select array_agg(l.relation order by l.number) into v_free
      from unnest(v_left) with ordinality l (relation, number)
      where not exists (
        select from unnest(v_referring, v_referred) k (referring, referred)
          where k.referred = l.relation and k.referring = any (v_left));
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
    select array_agg(l.relation order by l.number) into v_left
      from unnest(v_left) with ordinality l (relation, number) where l.relation <> all (v_free);
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
  v_rows jsonb;
begin
  for v_table in
    select p.relation, format('%I = %s', p.tenant_column, l.literal) as condition, row_number() over () as number
      from rowhouse.protected_tables p, rowhouse.tenant_literal(p_tenant, p.column_type) l (literal)
      where p.relation = any (p_relations) and l.literal is not null
  loop
    if array_length(p_relations, 1) = 1 then
      begin
        return jsonb_build_object(v_table.relation,
          rowhouse.execute_for(v_table.relation, format('delete from %s where %s', v_table.relation, v_table.condition)));
      exception
        -- Registered and dropped since the tables were locked: it has no name any more, or another one has it.
        when undefined_table or syntax_error or insufficient_privilege then
          if exists (select from pg_class c where c.oid = v_table.relation) then
            raise;
          end if;
          return '{}';
      end;
    end if;
    v_deletes := v_deletes || format('d%s as (delete from %s where %s returning 1)',
      v_table.number, v_table.relation, v_table.condition);
    v_counts := v_counts || format('(%L, (select count(*) from d%s))', v_table.relation, v_table.number);
  end loop;
  if v_deletes <> '{}' then
    execute format('set local search_path = %s', rowhouse.search_path_for(p_relations));
    execute format('with %s select jsonb_object_agg(c.relation, c.rows) from (values %s) c (relation, rows)',
      array_to_string(v_deletes, ', '), array_to_string(v_counts, ', ')) into v_rows;
  end if;
  return coalesce(v_rows, '{}');
end
$$;

comment on function rowhouse.delete_tenant_rows(regclass[], text) is
  'Deletes the rows of the tenant from these tables, several of them in one statement, and returns the number for each table.';

create or replace function rowhouse.delete_all_tenant_rows(p_tenant text, p_except regclass[]) returns jsonb
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = auto
as $$
declare
  v_order record;
  v_deleted jsonb;
  v_pass jsonb;
  v_rows jsonb := '{}';
  v_schema text;
  v_table text;
  v_constraint text;
begin
  -- What deferred triggers write is looked for as well, and each fires with the search path of its own table.
  set constraints all immediate;
  execute format('set local plan_cache_mode = %s', rowhouse.plan_mode_for_rows());
  -- A delete trigger of the user may write rows of the tenant again (a history table), so look until nothing is left.
  for v_round in 1 .. 5 loop
    v_pass := '{}';
    for v_order in
      select array(select r.relation from unnest(o.relations) r (relation) where r.relation <> all (p_except)) as relations
        from rowhouse.erasure_order() o order by o.place
    loop
      perform rowhouse.report_progress('erase', r.relation::text, coalesce((v_rows ->> r.relation::text)::bigint, 0))
        from unnest(v_order.relations) r (relation);
      v_deleted := rowhouse.delete_tenant_rows(v_order.relations, p_tenant);
      perform rowhouse.report_progress('erase', d.key, coalesce((v_rows ->> d.key)::bigint, 0) + d.value::bigint)
        from jsonb_each_text(v_deleted) d;
      v_pass := rowhouse.add_counts(v_pass, v_deleted);
    end loop;
    v_rows := rowhouse.add_counts(v_rows, v_pass);
    exit when (select coalesce(sum(r.value::bigint), 0) from jsonb_each_text(v_pass) r) = 0;
  end loop;
  return v_rows;
exception
  when foreign_key_violation or restrict_violation then
    get stacked diagnostics v_schema = schema_name, v_table = table_name, v_constraint = constraint_name;
    v_table := format('%I.%I', v_schema, v_table);
    if exists (select from rowhouse.protected_tables p where p.relation = to_regclass(v_table)) then
      raise exception using errcode = 'RH030',
        message = format('rows of table %s that are not the tenant''s refer to rows of the tenant by %I', v_table, v_constraint),
        hint = 'Let the foreign key contain the tenant, and delete the rows that break it.';
    end if;
    raise exception using errcode = 'RH030',
      message = format('rows of table %s refer to rows of the tenant by %I, and the table is not registered', v_table, v_constraint),
      hint = format('select rowhouse.protect_table(%L), or let the foreign key delete them (on delete cascade).', v_table);
  when insufficient_privilege or undefined_table or undefined_function then
    raise exception using errcode = sqlstate, message = sqlerrm,
      hint = 'Triggers on the tables run with the rights of rowhouse_owner, in the schema of their table. Let the function of the trigger be security definer and set its search_path, or grant what it needs.';
end
$$;

comment on function rowhouse.delete_all_tenant_rows(text, regclass[]) is
  'Deletes the rows of the tenant from all registered tables but the excepted ones; returns the number for each table. All deferred constraints of the transaction become immediate. Raises RH030.';

create or replace function rowhouse.count_tenant_rows(p_tenant text, p_only regclass[] default null) returns jsonb
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_table record;
  v_count bigint;
  v_rows jsonb := '{}';
begin
  for v_table in
    select p.relation, format('%I = %s', p.tenant_column, l.literal) as condition, d.partition
      from rowhouse.protected_tables p
      join pg_class c on c.oid = p.relation
      left join rowhouse.detached_partitions(p_tenant) d on d.relation = p.relation
      cross join rowhouse.tenant_literal(p_tenant, p.column_type) l (literal)
      where l.literal is not null and (p_only is null or p.relation = any (p_only))
      order by p.relation::text
  loop
    begin
      execute format('select count(*) from %s where %s', v_table.relation, v_table.condition) into v_count;
      if v_table.partition is not null then
        execute format('select $1 + count(*) from %s', v_table.partition) into v_count using v_count;
      end if;
      v_rows := v_rows || jsonb_build_object(v_table.relation, v_count);
    exception
      -- Dropped meanwhile: it has no name any more, or another one has it.
      when undefined_table or syntax_error or insufficient_privilege then
        if exists (select from pg_class c where c.oid = v_table.relation) then
          raise;
        end if;
    end;
  end loop;
  return v_rows;
end
$$;

comment on function rowhouse.count_tenant_rows(text, regclass[]) is
  'The number of rows of the tenant in each registered table, or in these only. Volatile, so that it sees what was committed since the statement that calls it began.';

create or replace function rowhouse.begin_erasure(p_tenant text) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform rowhouse.change_tenant_status(p_tenant, array['active', 'suspended', 'inactive', 'relocating'], 'erasing', 'erasure');
  -- Refused now rather than when the door is closed for good.
  perform rowhouse.check_erasable(p_tenant);
end
$$;

comment on function rowhouse.begin_erasure(text) is
  'Optional first step of an erasure: closes the door to the tenant at once, in a transaction of its own, so that erase_tenant finds few transactions to wait for. An erasure that was interrupted after it is resumed by calling erase_tenant. Raises what erase_tenant raises.';

create or replace function rowhouse.erase_everywhere(p_tenant text, p_leaves boolean default false) returns jsonb
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set lock_timeout = '60s'
as $$
declare
  v_promoted boolean := exists (
    select from rowhouse.tenants t where t.tenant_id = p_tenant and t.partition_schema is not null);
  v_tenant record;
  v_droppable regclass[];
  v_audit jsonb;
  v_rows jsonb;
  v_own jsonb;
  v_dropped integer;
  v_residue jsonb;
begin
  if v_promoted then
    perform rowhouse.lock_moves();
  end if;
  perform rowhouse.lock_tenant(p_tenant);
  -- What other sessions did to it while this one waited.
  select t.status, t.partition_schema into v_tenant from rowhouse.tenants t where t.tenant_id = p_tenant;
  if (v_tenant.status = 'erased' or rowhouse.tenant_is_moving(v_tenant.status)) and not p_leaves then
    perform rowhouse.check_tenant_status(p_tenant, v_tenant.status);
  elsif v_tenant.partition_schema is not null and not v_promoted then
    raise exception using errcode = 'RH032', message = format('tenant "%s" was promoted meanwhile', p_tenant), hint = 'Try again.';
  end if;
  update rowhouse.tenants t
    set status = 'erasing', status_before = null, updated_at = statement_timestamp()
    where t.tenant_id = p_tenant and t.status <> 'erasing';
  -- A demotion that was cut off: its rows come back to where triggers and foreign keys know them.
  while rowhouse.move_detached_rows(p_tenant) is not null loop
  end loop;
  -- All before the first row is touched, so that this and somebody who changes tables never wait for each other.
  perform rowhouse.lock_tables(
    array(select t.relation from rowhouse.tenant_tables(p_tenant) t where t.registered and t.readable),
    'row exclusive',
    array(select t.relation from rowhouse.tenant_tables(p_tenant) t join pg_class c on c.oid = t.relation
      where not t.registered and t.readable and c.relkind in ('r', 'p')));
  perform rowhouse.check_erasable(p_tenant);

  -- The trail goes, its chain stays: it shows that nothing was taken out of the trail before.
  v_audit := rowhouse.close_audit(p_tenant);
  -- Rows in partitions that can be dropped whole go last: dropping stops other tenants for a moment.
  v_droppable := array(select d.relation from rowhouse.droppable_partitions(p_tenant) d);
  v_rows := rowhouse.add_counts(jsonb_build_object('rowhouse.audit_entries', v_audit -> 'removed'),
    rowhouse.delete_all_tenant_rows(p_tenant, v_droppable));
  v_own := rowhouse.count_tenant_rows(p_tenant, v_droppable);
  v_rows := rowhouse.add_counts(v_rows, v_own);
  v_dropped := rowhouse.drop_own_partitions(p_tenant);
  perform rowhouse.report_progress('erase', o.key, o.value::bigint) from jsonb_each_text(v_own) o;

  -- Again: a trigger may have written to a table that was empty before. Then the residue: a table that was registered
  -- between the two is in one of them.
  perform rowhouse.check_erasable(p_tenant);
  v_residue := rowhouse.count_tenant_rows(p_tenant);
  if rowhouse.sum_counts(v_residue) > 0 then
    raise exception using errcode = 'RH031',
      message = format('%s rows of the tenant are left in %s', rowhouse.sum_counts(v_residue),
        (select string_agg(r.key, ', ' order by r.key) from jsonb_each_text(v_residue) r where r.value::bigint > 0));
  end if;
  return jsonb_build_object(
    'tables', v_rows,
    'rows', rowhouse.sum_counts(v_rows),
    'partitionsDropped', v_dropped,
    'audit', v_audit - 'removed',
    'residue', jsonb_build_object(
      'rows', rowhouse.sum_counts(v_residue),
      'registeredTablesChecked', (select count(*) from jsonb_object_keys(v_residue)),
      'otherTablesChecked', (select count(*) from rowhouse.tenant_tables(p_tenant) t where not t.registered and t.condition is not null)),
    'exemptTables', (
      select coalesce(jsonb_object_agg(e.relation::text, e.reason), '{}')
        from rowhouse.exempt_tables e join pg_class c on c.oid = e.relation));
exception
  when lock_not_available or deadlock_detected then
    raise exception using errcode = 'RH032',
      message = format('a transaction holds rows of tenant "%s" or a table, and does not finish', p_tenant),
      hint = 'End the long transactions, then try again.';
end
$$;

comment on function rowhouse.erase_everywhere(text, boolean) is
  'Takes the lock of the tenant, deletes its rows everywhere and checks that nothing is left; returns what a receipt says of it. p_leaves: of a tenant whose rows are in another database. Runs inside erase_tenant and others, which have chosen the tenant to work as.';

create or replace function rowhouse.erase_tenant(p_tenant text, p_dry_run boolean default false) returns jsonb
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set lock_timeout = '60s'
as $$
declare
  v_status text;
  v_before text[];
  v_started timestamptz := clock_timestamp();
  v_rows jsonb;
  v_erased jsonb;
  v_erased_at timestamptz;
begin
  perform rowhouse.check_tenant_id(p_tenant);
  select t.status into v_status from rowhouse.tenants t where t.tenant_id = p_tenant;
  if v_status is null or v_status = 'erased' or rowhouse.tenant_is_moving(v_status) then
    perform rowhouse.check_tenant_status(p_tenant, v_status);
  end if;
  -- From here on this transaction sees what the tenant sees, and nothing else.
  if p_dry_run then
    v_before := rowhouse.work_as(p_tenant, false);
    v_rows := rowhouse.count_tenant_rows(p_tenant);
    perform rowhouse.end_work(v_before);
    return jsonb_build_object('tenantId', p_tenant, 'dryRun', true, 'tables', v_rows, 'rows', rowhouse.sum_counts(v_rows),
      'obstacles', (select coalesce(jsonb_agg(jsonb_build_object('message', o.message, 'hint', o.hint)), '[]')
        from rowhouse.erasure_obstacles(p_tenant) o));
  end if;

  v_before := rowhouse.work_as(p_tenant, true);
  v_erased := rowhouse.erase_everywhere(p_tenant);
  perform rowhouse.end_work(v_before);
  v_erased_at := clock_timestamp();
  -- A new lock key: who comes with a snapshot from before must not believe the status that it sees.
  update rowhouse.tenants t
    set status = 'erased', erased_at = v_erased_at, updated_at = v_erased_at, lock_key = default,
      name = t.tenant_id, settings = '{}', status_reason = null, partition_schema = null, locks_on_entry = false
    where t.tenant_id = p_tenant;
  return rowhouse.store_receipt(p_tenant, v_erased_at, v_erased || jsonb_build_object(
    'tenantId', p_tenant, 'startedAt', v_started, 'erasedAt', v_erased_at, 'erasedBy', session_user));
end
$$;

comment on function rowhouse.erase_tenant(text, boolean) is
  'Erases every row of the tenant in every registered table, its partitions and what the registry knows of it, in this transaction, and returns the receipt: rows for each table, the check that nothing is left, and the digest that chains it to the receipt before. p_dry_run: only counts, and lists obstacles. Needs isolation level read committed. Raises RH002 (unknown), RH004 (erased already), RH030 (a table that is not registered holds rows of the tenant, or a registered one may hide some), RH031 (something kept rows alive), RH032 (other transactions did not finish in time); then nothing was erased.';

revoke execute on function
  rowhouse.erasure_order(), rowhouse.delete_tenant_rows(regclass[], text), rowhouse.delete_all_tenant_rows(text, regclass[]),
  rowhouse.count_tenant_rows(text, regclass[]), rowhouse.begin_erasure(text), rowhouse.erase_everywhere(text, boolean),
  rowhouse.erase_tenant(text, boolean)
  from public;
grant execute on function rowhouse.begin_erasure(text), rowhouse.erase_tenant(text, boolean) to rowhouse_admin;
