-- Demotion: the rows of a promoted tenant go back into the shared partitions; its own ones and their schema go.
--
-- The shared partitions take no row of a tenant while it has a partition of its own there, and to detach one locks the
-- whole table. So it has steps, each a transaction of its own:
--   begin_demotion   detaches all its partitions in a moment, and closes the tenant (status relocating)
--   demote_next      moves the rows of a table, or a part of them; again until none is left, which opens the tenant
-- Each row is in one place at any time. Others wait for the first step, whoever enters the tenant for the last one
-- (relocation.sql). Cut off between two steps, the tenant stays closed, RH033, until somebody calls them again.
-- Foreign keys among the detached tables go, which nobody can write to; those to other tables stay, so that nobody
-- deletes what the rows refer to. Rows come back referred ones first, and are checked like every new row.
-- Depends on: relocation.sql, own_partitions.sql, locks.sql. Proven by: test/tenants/demote*.test.ts.

create or replace function rowhouse.detached_partitions(p_tenant text)
  returns table (place integer, relation regclass, partition regclass, tenant_column name, literal text)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select coalesce(o.place, 0), r.oid::regclass, c.oid::regclass, p.tenant_column,
        case when p.relation is not null then rowhouse.tenant_literal(p_tenant, p.column_type) end
      from rowhouse.tenants t
      join pg_namespace n on n.nspname = t.partition_schema
      join pg_class c on c.relnamespace = n.oid and c.relkind = 'r' and not c.relispartition
      -- Their names hold the number of their table.
      left join pg_class r on r.oid::text = substr(c.relname, 2) and r.relkind = 'p'
      left join rowhouse.protected_tables p on p.relation = r.oid
      left join (select e.place, unnest(e.relations) as relation from rowhouse.erasure_order() e) o on o.relation = r.oid
      where t.tenant_id = p_tenant;
end
$$;

comment on function rowhouse.detached_partitions(text) is
  'What a demotion has detached and not moved yet; place orders them, referring tables first. relation: the table, null when it was dropped since; literal: null when it is not protected any more.';

create or replace function rowhouse.check_demotable(p_tenant text) returns void
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_problem record;
begin
  -- Once its rows are on the way they have to arrive.
  select w.relation, k.conname into v_problem
    from rowhouse.own_partitions(p_tenant) w
    left join pg_constraint k on k.conrelid = w.relation and k.contype = 'c' and not k.convalidated
    where w.relation is not null and (w.literal is null or k.oid is not null)
    limit 1;
  if v_problem.conname is not null then
    raise exception using errcode = 'RH010',
      message = format('constraint %I of %s is not validated: rows of the tenant may not fit', v_problem.conname, v_problem.relation),
      hint = format('alter table %s validate constraint %I', v_problem.relation, v_problem.conname);
  elsif v_problem.relation is not null then
    raise exception using errcode = 'RH011', message = format('table %s is not protected any more', v_problem.relation),
      hint = format('select rowhouse.protect_table(%L)', v_problem.relation);
  end if;
end
$$;

comment on function rowhouse.check_demotable(text) is
  'Raises what would keep rows of the tenant from being moved back: RH010 (a constraint that is not validated), RH011 (a table that is not protected any more).';

create or replace function rowhouse.begin_demotion(p_tenant text) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set lock_timeout = '60s'
as $$
declare
  v_before text[];
  v_partitions jsonb;
  v_relations regclass[];
  v_partition record;
  v_key name;
begin
  perform rowhouse.check_tenant_id(p_tenant);
  -- What was cut off goes on.
  if exists (select from rowhouse.tenants t where t.tenant_id = p_tenant and t.status = 'relocating')
      or rowhouse.enter_for_move(p_tenant) is null then
    return;
  end if;
  v_before := rowhouse.work_as(p_tenant, true);
  -- No table can be altered while deferred triggers wait for it.
  set constraints all immediate;
  perform rowhouse.check_demotable(p_tenant);
  -- First, because it may have to wait for others who hold this row. A new lock key: who comes with a snapshot from
  -- before would not find the rows, and is told so (40001).
  update rowhouse.tenants t
    set status = 'relocating', status_before = t.status, locks_on_entry = true, lock_key = default, updated_at = clock_timestamp()
    where t.tenant_id = p_tenant;
  select coalesce(jsonb_agg(to_jsonb(w)), '[]') into v_partitions from rowhouse.own_partitions(p_tenant) w where w.relation is not null;
  v_relations := array(
    select w.relation from jsonb_to_recordset(v_partitions) w (place integer, relation regclass) order by w.place desc);
  -- And the tables that foreign keys link with them, which Postgres locks as well.
  perform rowhouse.lock_tables(v_relations || array(
    select p.relation from rowhouse.protected_tables p
      where p.relation <> all (v_relations) and exists (
        select from pg_constraint f where f.contype = 'f' and f.conparentid = 0
          and (f.conrelid = p.relation and f.confrelid = any (v_relations) or f.confrelid = p.relation and f.conrelid = any (v_relations)))),
    'access exclusive');

  -- Others who are not registered are waited for in this time only: everybody waits behind these locks.
  set local lock_timeout = '300ms';
  -- Out of sight of the policies, because Postgres looks for rows that refer to those of a partition before it lets it
  -- go, also in the partition itself.
  perform rowhouse.work_as(null, true);
  for v_partition in
    select * from jsonb_to_recordset(v_partitions) w (place integer, relation regclass, partition regclass) order by w.place
  loop
    execute format('alter table %s detach partition %s', v_partition.relation, v_partition.partition);
    for v_key in
      select f.conname from pg_constraint f
        where f.conrelid = v_partition.partition and f.contype = 'f' and f.conparentid = 0 and f.confrelid = any (v_relations)
    loop
      execute format('alter table %s drop constraint %I', v_partition.partition, v_key);
    end loop;
  end loop;
  perform rowhouse.end_work(v_before);
exception
  when lock_not_available or deadlock_detected then
    raise exception using errcode = 'RH032',
      message = format('a transaction holds rows of tenant "%s" or a table, and does not finish', p_tenant),
      hint = 'End the long transactions, then try again.';
end
$$;

comment on function rowhouse.begin_demotion(text) is
  'Detaches the partitions of a promoted tenant and closes it, status relocating, until demote_next has moved its rows: in a transaction of its own, after begin_relocation and after await_entries returned true. Other tenants wait for it, a moment. Nothing happens when the tenant has no partitions, or when it was called before. Transactions in repeatable read that took their snapshot before and enter the tenant after the end do not find its rows. Needs isolation level read committed. Raises RH002, RH004, RH010, RH011, and RH032 when other transactions do not finish.';

create or replace function rowhouse.drop_detached(p_partition regclass) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set lock_timeout = 0
as $$
declare
  v_deadline timestamptz := clock_timestamp() + interval '60 seconds';
begin
  loop
    begin
      -- Locks the tables that its foreign keys refer to; others queue behind it while it waits.
      set local lock_timeout = '300ms';
      execute format('drop table %s', p_partition);
      return;
    exception
      when lock_not_available or deadlock_detected then
        if clock_timestamp() > v_deadline then
          raise;
        end if;
    end;
    perform pg_sleep(0.5 * random());
  end loop;
end
$$;

comment on function rowhouse.drop_detached(regclass) is
  'Drops a detached partition. Nobody waits for longer than a third of a second while it waits; gives up after a minute.';

create or replace function rowhouse.move_detached_rows(p_tenant text, p_batch integer default 5000) returns jsonb
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = auto
as $$
declare
  v_tables jsonb;
  v_table record;
  v_leaf regclass;
  v_columns text;
  v_restore text[] := '{}';
  v_in_batches boolean;
  v_source text;
  v_inserts text[] := '{}';
  v_counts text[] := '{}';
  v_rows jsonb;
  v_statement text;
begin
  -- No table can be altered while deferred triggers wait for it.
  set constraints all immediate;
  execute format('set local plan_cache_mode = %s', rowhouse.plan_mode_for_rows());
  -- Rows that others refer to first; where foreign keys go in a circle, in one statement.
  select jsonb_agg(to_jsonb(d)) into v_tables
    from (select w.*, max(w.place) over () as next_place from rowhouse.detached_partitions(p_tenant) w) d
    where d.place = d.next_place and d.relation is not null or d.next_place = 0;
  if v_tables is null then
    return null;
  end if;
  for v_table in select * from jsonb_to_recordset(v_tables) d (relation regclass, partition regclass, literal text) loop
    -- Its table was dropped, and the rows of others with it.
    if v_table.relation is null then
      perform rowhouse.drop_detached(v_table.partition);
      return '{}';
    elsif v_table.literal is null then
      raise exception using errcode = 'RH011', message = format('table %s is not protected any more', v_table.relation),
        hint = format('select rowhouse.protect_table(%L)', v_table.relation);
    end if;
    v_leaf := rowhouse.shared_leaf_of(v_table.relation, v_table.literal);
    -- That both have: the table may have changed since.
    select string_agg(quote_ident(a.attname), ', ' order by a.attnum) into v_columns
      from pg_attribute a join pg_attribute l on l.attrelid = v_leaf and l.attname = a.attname
      where a.attrelid = v_table.partition and a.attnum > 0 and not a.attisdropped
        and l.attnum > 0 and not l.attisdropped and l.attgenerated = '';
    v_in_batches := false;
    -- Without triggers of the user: the rows only move. That keeps other writers waiting, so not for all rows at once.
    if rowhouse.user_triggers(v_leaf) <> '{}' then
      v_restore := v_restore || rowhouse.user_triggers(v_leaf);
      perform rowhouse.lock_tables(array[v_leaf], 'share row exclusive');
      execute format('alter table %s disable trigger user', v_leaf);
      v_in_batches := jsonb_array_length(v_tables) = 1 and not exists (
        select from pg_constraint f where f.contype = 'f' and f.conrelid = v_table.relation and f.confrelid = v_table.relation);
    end if;
    v_source := v_table.partition;
    if v_in_batches then
      v_inserts := v_inserts || format('batch as (delete from %1$s where ctid = any (array(select ctid from %1$s limit %2$s)) returning %3$s)',
        v_source, p_batch, v_columns);
      v_source := 'batch';
    end if;
    v_inserts := v_inserts || format('t%1$s as (insert into %2$s (%3$s) overriding system value select %3$s from %4$s returning 1)',
      v_table.relation::oid, v_leaf, v_columns, v_source);
    v_counts := v_counts || format('(%L, (select count(*) from t%s))', v_table.relation, v_table.relation::oid);
  end loop;

  execute format('set local search_path = %s', rowhouse.search_path_for(
    array(select d.relation from jsonb_to_recordset(v_tables) d (relation regclass))));
  execute format('with %s select jsonb_object_agg(c.relation, c.rows) from (values %s) c (relation, rows)',
    array_to_string(v_inserts, ', '), array_to_string(v_counts, ', ')) into v_rows;
  set local search_path = pg_catalog, pg_temp;
  foreach v_statement in array v_restore loop
    execute v_statement;
  end loop;
  if not v_in_batches or rowhouse.sum_counts(v_rows) < p_batch then
    for v_table in select * from jsonb_to_recordset(v_tables) d (partition regclass) loop
      perform rowhouse.drop_detached(v_table.partition);
    end loop;
  end if;
  return v_rows;
end
$$;

comment on function rowhouse.move_detached_rows(text, integer) is
  'Moves the rows of the next detached partition into the shared one and drops it: all of them, or where triggers of the user are not to see them go, which other writers wait for, p_batch. Returns the rows for each table, null when nothing is left. As the tenant, after lock_moves.';

create or replace function rowhouse.demote_next(p_tenant text) returns jsonb
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set lock_timeout = '60s'
as $$
declare
  v_tenant rowhouse.tenants;
  v_before text[];
  v_moved jsonb;
begin
  perform rowhouse.check_tenant_id(p_tenant);
  select t.* into v_tenant from rowhouse.tenants t where t.tenant_id = p_tenant;
  -- Whoever enters the tenant sees by this lock that somebody is at work.
  perform pg_advisory_xact_lock(rowhouse.relocation_key(v_tenant.lock_key));
  perform rowhouse.lock_moves();
  select t.* into v_tenant from rowhouse.tenants t where t.tenant_id = p_tenant;
  if v_tenant.status is distinct from 'relocating' then
    if not rowhouse.tenant_is_here(v_tenant.status) then
      perform rowhouse.check_tenant_status(p_tenant, v_tenant.status);
    end if;
    -- Somebody else has ended it, or it never had partitions.
    perform rowhouse.end_relocation(p_tenant);
    return null;
  end if;
  v_before := rowhouse.work_as(p_tenant, true);
  v_moved := rowhouse.move_detached_rows(p_tenant);
  if v_moved is null then
    execute format('drop schema %I', v_tenant.partition_schema);
    update rowhouse.tenants t
      set status = t.status_before, status_before = null, partition_schema = null, locks_on_entry = false,
        lock_key = default, updated_at = clock_timestamp()
      where t.tenant_id = p_tenant and t.status = 'relocating';
  else
    update rowhouse.tenants t set updated_at = clock_timestamp() where t.tenant_id = p_tenant and t.status = 'relocating';
  end if;
  perform rowhouse.end_work(v_before);
  return v_moved;
exception
  when lock_not_available or deadlock_detected then
    raise exception using errcode = 'RH032', message = format('a transaction uses tables that rows of tenant "%s" go to or refer to, and does not finish', p_tenant),
      hint = 'End the long transactions, then try again.';
end
$$;

comment on function rowhouse.demote_next(text) is
  'Next step of a demotion after begin_demotion, in a transaction of its own: moves rows of the tenant back and returns how many for each table; when nothing is left, opens the tenant and returns null. Several may call it at once. Raises RH002, RH004, RH011, RH032, and what the tables say to rows that do not fit them any more.';

create or replace function rowhouse.demote_tenant(p_tenant text) returns jsonb
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_moved jsonb;
  v_rows jsonb := '{}';
begin
  perform rowhouse.begin_demotion(p_tenant);
  loop
    v_moved := rowhouse.demote_next(p_tenant);
    exit when v_moved is null;
    v_rows := rowhouse.add_counts(v_rows, v_moved);
  end loop;
  return jsonb_build_object('tenantId', p_tenant, 'tables', v_rows);
end
$$;

comment on function rowhouse.demote_tenant(text) is
  'All steps of a demotion in one transaction, for which everybody waits: for small tenants, by hand. Needs isolation level read committed; deferred constraints of the transaction become immediate. Returns the rows moved for each table.';

revoke execute on function
  rowhouse.detached_partitions(text), rowhouse.check_demotable(text), rowhouse.begin_demotion(text), rowhouse.drop_detached(regclass),
  rowhouse.move_detached_rows(text, integer), rowhouse.demote_next(text), rowhouse.demote_tenant(text)
  from public;
grant execute on function rowhouse.begin_demotion(text), rowhouse.demote_next(text), rowhouse.demote_tenant(text) to rowhouse_admin;
