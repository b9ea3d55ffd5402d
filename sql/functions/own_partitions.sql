-- Partitions of one tenant: which they are, and how they go.
--
-- Depends on: layout.sql, locks.sql, erase.sql (erasure_order). Proven by: test/tenants/promote*.test.ts, demote*.test.ts, test/erase/promoted.test.ts.

create or replace function rowhouse.shared_leaves(p_table regclass) returns table (leaf regclass, remainder integer)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select i.inhrelid::regclass, (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'remainder (\d+)'))[1]::integer
      from pg_inherits i join pg_class c on c.oid = i.inhrelid
      where i.inhparent = format('rowhouse_partitions.t%s_shared', p_table::oid)::regclass
      order by 2;
end
$$;

comment on function rowhouse.shared_leaves(regclass) is 'The hash partitions that tenants share, in order.';

create or replace function rowhouse.shared_leaf_of(p_table regclass, p_literal text) returns regclass
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_shared regclass := format('rowhouse_partitions.t%s_shared', p_table::oid)::regclass;
  v_leaf regclass;
begin
  -- Of the type of the column, which may be a domain.
  execute format('select l.leaf from rowhouse.shared_leaves(%s) l where satisfies_hash_partition('
      '%s, (select count(*)::integer from rowhouse.shared_leaves(%s)), l.remainder, %s::%s)',
      p_table::oid, v_shared::oid, p_table::oid, p_literal, (
        select a.atttypid::regtype from pg_partitioned_table k
          join pg_attribute a on a.attrelid = k.partrelid and a.attnum = k.partattrs[0]
          where k.partrelid = v_shared))
    into strict v_leaf;
  return v_leaf;
end
$$;

comment on function rowhouse.shared_leaf_of(regclass, text) is
  'The hash partition that holds the rows of this tenant, given as a literal of the tenant column, while it has none of its own.';

create or replace function rowhouse.own_partitions(p_tenant text)
  returns table (place integer, relation regclass, partition regclass, literal text)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- Also of a table that is not registered any more.
  return query
    select coalesce(o.place, 0), i.inhparent::regclass, c.oid::regclass,
        case when p.relation is not null then rowhouse.tenant_literal(p_tenant, p.column_type) end
      from rowhouse.tenants t
      join pg_namespace n on n.nspname = t.partition_schema
      join pg_class c on c.relnamespace = n.oid and c.relkind in ('r', 'p')
      left join pg_inherits i on i.inhrelid = c.oid
      left join rowhouse.protected_tables p on p.relation = i.inhparent
      left join (select e.place, unnest(e.relations) as relation from rowhouse.erasure_order() e) o on o.relation = i.inhparent
      where t.tenant_id = p_tenant;
end
$$;

comment on function rowhouse.own_partitions(text) is
  'The partitions that belong to this promoted tenant alone; place orders them, referring tables first.';

create or replace function rowhouse.user_triggers(p_partition regclass) returns text[]
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return array(
    select format('alter table %s enable %strigger %I', p_partition,
        case t.tgenabled when 'A' then 'always ' when 'R' then 'replica ' else '' end, t.tgname)
      from pg_trigger t where t.tgrelid = p_partition and not t.tgisinternal and t.tgenabled <> 'D');
end
$$;

comment on function rowhouse.user_triggers(regclass) is
  'The statements that enable the triggers of a partition as they are enabled now; none when it has none.';

create or replace function rowhouse.plan_mode_for_rows() returns text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- Of the query that a foreign key runs for each row: planning it each time takes longer than to lock all partitions,
  -- unless there are very many.
  return case when (
      select max(n.partitions) from (
        -- Not pg_partition_tree: it locks partitions.
        select count(*) as partitions from pg_class c
          join rowhouse.protected_tables p on p.relation = pg_partition_root(c.oid)
          where c.relispartition group by p.relation) n
    ) > 200 then 'auto' else 'force_generic_plan' end;
end
$$;

comment on function rowhouse.plan_mode_for_rows() is
  'The plan_cache_mode in which foreign keys are checked fastest while all rows of a tenant are moved or deleted.';

create or replace function rowhouse.droppable_partitions(p_tenant text) returns table (relation regclass)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_droppable oid[];
  v_kept oid[];
begin
  -- No trigger of the user wants to see the rows go ...
  v_droppable := array(
    select w.relation from rowhouse.own_partitions(p_tenant) w
      where w.literal is not null
        and not exists (select from pg_trigger t
          where t.tgrelid in (w.partition, w.relation) and t.tgname <> 'rowhouse_guard' and not t.tgisinternal and t.tgtype & 8 <> 0));
  -- ... and foreign keys link them with nothing but rows that are dropped as well.
  loop
    v_kept := array(
      select d.relation from unnest(v_droppable) d (relation)
        where exists (
          select from (
            select coalesce(pg_partition_root(f.conrelid), f.conrelid)::oid as referring, coalesce(pg_partition_root(f.confrelid), f.confrelid)::oid as referred
              from pg_constraint f where f.contype = 'f' and f.conparentid = 0) k
          where (k.referring = d.relation and k.referred <> all (v_droppable)
                and k.referred in (select p.relation from rowhouse.protected_tables p))
            or (k.referred = d.relation and k.referring <> all (v_droppable))));
    exit when v_kept = '{}';
    v_droppable := array(select d.relation from unnest(v_droppable) d (relation) where d.relation <> all (v_kept));
  end loop;
  return query select d.relation::regclass from unnest(v_droppable) d (relation);
end
$$;

comment on function rowhouse.droppable_partitions(text) is
  'Tables whose rows of this promoted tenant can go with its partition, unread: no trigger sees them, no foreign key needs them.';

create or replace function rowhouse.drop_own_partitions(p_tenant text) returns integer
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_partitions jsonb;
  v_partition record;
  v_schema name;
begin
  select t.partition_schema into v_schema from rowhouse.tenants t where t.tenant_id = p_tenant;
  if v_schema is null then
    return 0;
  end if;
  select coalesce(jsonb_agg(to_jsonb(w)), '[]') into v_partitions from rowhouse.own_partitions(p_tenant) w;
  perform rowhouse.lock_tables(array(
    select w.relation from jsonb_to_recordset(v_partitions) w (place integer, relation regclass)
      where w.relation is not null order by w.place desc), 'access exclusive');
  -- The rows that are left refer to nothing but each other and go together. Out of sight of the policies, because Postgres
  -- looks for rows that refer to those of a partition before it lets it go, also in the partition itself.
  perform rowhouse.work_as(null, true);
  for v_partition in
    select * from jsonb_to_recordset(v_partitions) w (place integer, relation regclass, partition regclass) order by w.place
  loop
    if v_partition.relation is not null then
      execute format('alter table %s detach partition %s', v_partition.relation, v_partition.partition);
    end if;
    execute format('drop table %s', v_partition.partition);
  end loop;
  execute format('drop schema %I', v_schema);
  perform rowhouse.work_as(p_tenant, true);
  return jsonb_array_length(v_partitions);
exception
  -- Postgres looks whether rows of a table that refers to the partition are left.
  when insufficient_privilege then
    raise exception using errcode = 'RH030',
      message = format('a table that is not registered refers to a table of the tenant and cannot be read: %s', sqlerrm),
      hint = 'Put it under rowhouse.protect_table, or: grant select on it to rowhouse_owner.';
end
$$;

comment on function rowhouse.drop_own_partitions(text) is
  'Drops the partitions of a promoted tenant, those of droppable_partitions with their rows and the others empty, and their schema; returns how many. Raises RH030 where a table that refers to one of them cannot be read.';

revoke execute on function
  rowhouse.shared_leaves(regclass), rowhouse.shared_leaf_of(regclass, text), rowhouse.own_partitions(text),
  rowhouse.user_triggers(regclass), rowhouse.plan_mode_for_rows(), rowhouse.droppable_partitions(text),
  rowhouse.drop_own_partitions(text)
  from public;
