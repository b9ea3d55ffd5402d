-- Promotion: a tenant that has grown gets partitions of its own, in a schema of its own.
--
-- Its queries read its rows only, its vector index holds its vectors only, its statistics are its own, and erasing it is
-- a truncate. Schema and partitions have opaque names: the catalogs are public, the list of tenants is not.
-- Depends on: layout.sql, erase.sql (lock_tenant, erasure_order). Proven by: test/tenants/promote.test.ts.

create or replace function rowhouse.own_partitions(p_tenant text)
  returns table (place integer, relation regclass, partition regclass)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select o.place, p.relation, c.oid::regclass
      from rowhouse.tenants t
      join pg_namespace n on n.nspname = t.partition_schema
      join pg_class c on c.relnamespace = n.oid and c.relispartition
      join pg_inherits i on i.inhrelid = c.oid
      join rowhouse.protected_tables p on p.relation = i.inhparent
      join (select e.place, unnest(e.relations) as relation from rowhouse.erasure_order() e) o on o.relation = p.relation
      where t.tenant_id = p_tenant;
end
$$;

comment on function rowhouse.own_partitions(text) is
  'The partitions that belong to this promoted tenant alone; place orders them, referring tables first.';

create or replace function rowhouse.stored_columns(p_table regclass) returns text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select string_agg(quote_ident(a.attname), ', ' order by a.attnum)
      from pg_attribute a
      where a.attrelid = p_table and a.attnum > 0 and not a.attisdropped and a.attgenerated = '');
end
$$;

comment on function rowhouse.stored_columns(regclass) is 'The columns of the table that can be inserted, as a list for a statement.';

create or replace function rowhouse.index_partition(p_table regclass, p_partition regclass) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_index record;
  v_prefix text;
begin
  for v_index in
    select pg_get_indexdef(i.indexrelid) as definition, pg_get_constraintdef(k.oid) as constraint_definition,
        i.indisunique, c.relname, c.relkind
      from pg_index i
      join pg_class c on c.oid = i.indexrelid
      left join pg_constraint k on k.conindid = i.indexrelid and k.conrelid = i.indrelid and k.contype in ('p', 'u')
      where i.indrelid = p_table
      order by i.indexrelid
  loop
    if v_index.constraint_definition is not null then
      execute format('alter table %s add %s', p_partition, v_index.constraint_definition);
      continue;
    end if;
    -- The same definition for the partition, under a name that Postgres chooses.
    v_prefix := format('CREATE %sINDEX %I ON %s%s USING ', case when v_index.indisunique then 'UNIQUE ' else '' end,
      v_index.relname, case when v_index.relkind = 'I' then 'ONLY ' else '' end, p_table);
    if not starts_with(v_index.definition, v_prefix) then
      raise exception 'unexpected index definition: %', v_index.definition;
    end if;
    execute format('create %sindex on %s using ', case when v_index.indisunique then 'unique ' else '' end, p_partition)
      || substr(v_index.definition, length(v_prefix) + 1);
  end loop;
end
$$;

comment on function rowhouse.index_partition(regclass, regclass) is
  'Builds the indexes of the table on a filled partition before it is attached: in bulk, and without locks on the table.';

create or replace function rowhouse.promotion_obstacle(p_table regclass) returns text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_obstacle text;
begin
  if (select c.relowner from pg_class c where c.oid = p_table) <> 'rowhouse_owner'::regrole then
    return 'rowhouse_owner does not own it';
  end if;
  select format('%s refers to it and is not partitioned by tenant', k.conrelid::regclass) into v_obstacle
    from pg_constraint k
    where k.contype = 'f' and k.conparentid = 0 and k.confrelid = p_table
      and not exists (select from rowhouse.protected_tables p where p.relation = k.conrelid and p.layout = 'partitioned')
    limit 1;
  if v_obstacle is null and exists (
      select from rowhouse.erasure_order() o where p_table = any (o.relations) and array_length(o.relations, 1) > 1) then
    v_obstacle := 'foreign keys form a circle through it';
  end if;
  return v_obstacle;
end
$$;

comment on function rowhouse.promotion_obstacle(regclass) is
  'Why rows of a tenant cannot move into a partition of their own in this table; null when they can.';

create or replace function rowhouse.promote_tenant(p_tenant text) returns jsonb
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_status text;
  v_caller_tenant text := current_setting('app.tenant_id', true);
  v_schema name;
  v_tables jsonb := '[]';
  v_table record;
  v_partition text;
  v_literal text;
  v_obstacle text;
  v_count bigint;
  v_rows jsonb := '{}';
  v_skipped jsonb := '{}';
begin
  perform rowhouse.check_tenant_id(p_tenant);
  perform rowhouse.lock_tenant(p_tenant);
  select t.status, t.partition_schema into v_status, v_schema from rowhouse.tenants t where t.tenant_id = p_tenant;
  if v_status is null or v_status in ('erasing', 'erased') then
    perform rowhouse.check_tenant_status(p_tenant, v_status);
  end if;
  execute format('set local app.tenant_id = %L', p_tenant);
  if v_schema is null then
    v_schema := 'rowhouse_p' || substr(replace(gen_random_uuid()::text, '-', ''), 1, 16);
    execute format('create schema %I', v_schema);
    execute format('revoke all on schema %I from public', v_schema);
    execute format('comment on schema %I is %L', v_schema, 'Partitions of one promoted tenant.');
    update rowhouse.tenants t set partition_schema = v_schema, updated_at = statement_timestamp() where t.tenant_id = p_tenant;
  end if;

  -- Copy all, then delete all, then attach all: no foreign key ever sees a row that refers to nothing, and no cascade
  -- reaches a copy.
  for v_table in
    select p.relation, p.tenant_column, p.column_type, o.place
      from rowhouse.erasure_order() o, unnest(o.relations) r (relation)
      join rowhouse.protected_tables p on p.relation = r.relation
      where p.layout = 'partitioned'
        and p.relation not in (select w.relation from rowhouse.own_partitions(p_tenant) w)
      order by o.place
  loop
    v_literal := rowhouse.tenant_literal(p_tenant, v_table.column_type);
    v_obstacle := case when v_literal is null then 'the id is no value of its tenant column'
      else rowhouse.promotion_obstacle(v_table.relation) end;
    if v_obstacle is not null then
      v_skipped := v_skipped || jsonb_build_object(v_table.relation, v_obstacle);
      continue;
    end if;
    v_partition := format('%I.t%s', v_schema, v_table.relation::oid);
    execute format('create table %s (like %s including all excluding indexes excluding identity)', v_partition, v_table.relation);
    execute format('comment on table %s is %L', v_partition, format('Rows of one promoted tenant of %s.', v_table.relation));
    execute format('insert into %s (%s) select %s from %s where %I = %s', v_partition,
      rowhouse.stored_columns(v_table.relation), rowhouse.stored_columns(v_table.relation),
      v_table.relation, v_table.tenant_column, v_literal);
    get diagnostics v_count = row_count;
    perform rowhouse.index_partition(v_table.relation, v_partition::regclass);
    execute format('analyze %s', v_partition);
    v_rows := v_rows || jsonb_build_object(v_table.relation, v_count);
    v_tables := v_tables || jsonb_build_object('place', v_table.place, 'relation', v_table.relation, 'column', v_table.tenant_column,
      'type', v_table.column_type, 'partition', v_partition, 'literal', v_literal);
  end loop;
  for v_table in
    select * from jsonb_to_recordset(v_tables) t (place integer, relation regclass, "column" name, literal text) order by place
  loop
    execute format('delete from %s where %I = %s', v_table.relation, v_table."column", v_table.literal);
  end loop;
  for v_table in
    select * from jsonb_to_recordset(v_tables)
      t (place integer, relation regclass, "column" name, type regtype, partition text, literal text)
      order by place desc
  loop
    execute format('alter table %s attach partition %s for values in (%s)', v_table.relation, v_table.partition, v_table.literal);
    perform rowhouse.secure_partition(v_table.partition::regclass, v_table."column", v_table.type);
  end loop;

  execute format('set local app.tenant_id = %L', coalesce(v_caller_tenant, ''));
  return jsonb_build_object('tenantId', p_tenant, 'schema', v_schema, 'tables', v_rows, 'skipped', v_skipped);
end
$$;

comment on function rowhouse.promote_tenant(text) is
  'Gives the tenant partitions of its own in every table that is partitioned by tenant, in a schema with an opaque name. Its writers wait meanwhile; other tenants wait while partitions are attached. Calling it again takes in tables that came later. Returns the rows moved for each table, and under skipped the tables left as they are with the reason.';

create or replace function rowhouse.drop_own_partitions(p_tenant text) returns integer
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_partition record;
  v_schema name;
  v_dropped integer := 0;
begin
  for v_partition in select * from rowhouse.own_partitions(p_tenant) w order by w.place loop
    execute format('alter table %s detach partition %s', v_partition.relation, v_partition.partition);
    execute format('drop table %s', v_partition.partition);
    v_dropped := v_dropped + 1;
  end loop;
  select t.partition_schema into v_schema from rowhouse.tenants t where t.tenant_id = p_tenant;
  if v_schema is not null then
    execute format('drop schema %I', v_schema);
    update rowhouse.tenants t set partition_schema = null where t.tenant_id = p_tenant;
  end if;
  return v_dropped;
end
$$;

comment on function rowhouse.drop_own_partitions(text) is
  'Drops the partitions of a promoted tenant, referring tables first, and their schema; returns how many. Erasure emptied them before.';

create or replace function rowhouse.demote_tenant(p_tenant text) returns jsonb
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_status text;
  v_schema name;
  v_caller_tenant text := current_setting('app.tenant_id', true);
  v_partitions jsonb;
  v_partition record;
  v_count bigint;
  v_rows jsonb := '{}';
begin
  perform rowhouse.check_tenant_id(p_tenant);
  perform rowhouse.lock_tenant(p_tenant);
  select t.status, t.partition_schema into v_status, v_schema from rowhouse.tenants t where t.tenant_id = p_tenant;
  if v_status is null or v_status in ('erasing', 'erased') then
    perform rowhouse.check_tenant_status(p_tenant, v_status);
  end if;
  execute format('set local app.tenant_id = %L', p_tenant);
  select coalesce(jsonb_agg(to_jsonb(w)), '[]') into v_partitions from rowhouse.own_partitions(p_tenant) w;

  -- Referring tables leave first; the rows come back in the opposite order, so that each finds what it refers to.
  for v_partition in
    select * from jsonb_to_recordset(v_partitions) w (place integer, relation regclass, partition regclass) order by w.place
  loop
    execute format('alter table %s detach partition %s', v_partition.relation, v_partition.partition);
  end loop;
  for v_partition in
    select * from jsonb_to_recordset(v_partitions) w (place integer, relation regclass, partition regclass) order by w.place desc
  loop
    -- Into the shared partition itself: the write guard of the table would refuse a suspended tenant.
    execute format('insert into rowhouse_partitions.t%s_shared (%s) overriding system value select %s from %s', v_partition.relation::oid,
      rowhouse.stored_columns(v_partition.relation), rowhouse.stored_columns(v_partition.relation), v_partition.partition);
    get diagnostics v_count = row_count;
    v_rows := v_rows || jsonb_build_object(v_partition.relation, v_count);
    execute format('drop table %s', v_partition.partition);
  end loop;
  if v_schema is not null then
    execute format('drop schema %I', v_schema);
    update rowhouse.tenants t set partition_schema = null, updated_at = statement_timestamp() where t.tenant_id = p_tenant;
  end if;
  execute format('set local app.tenant_id = %L', coalesce(v_caller_tenant, ''));
  return jsonb_build_object('tenantId', p_tenant, 'tables', v_rows);
end
$$;

comment on function rowhouse.demote_tenant(text) is
  'Moves the rows of a promoted tenant back into the shared partitions and drops its own. Returns the rows moved for each table.';

revoke execute on function
  rowhouse.own_partitions(text), rowhouse.stored_columns(regclass), rowhouse.index_partition(regclass, regclass),
  rowhouse.promotion_obstacle(regclass), rowhouse.promote_tenant(text), rowhouse.drop_own_partitions(text),
  rowhouse.demote_tenant(text)
  from public;
grant execute on function rowhouse.promote_tenant(text), rowhouse.demote_tenant(text) to rowhouse_admin;
