-- Promotion: a tenant that has grown gets partitions of its own, in a schema of its own.
--
-- Its queries read its rows only, its vector index holds its vectors only, its statistics are its own, and erasing it
-- drops them. Schema and partitions have opaque names; only their bounds tell the tenant.
-- Depends on: layout.sql, own_partitions.sql, relocation.sql, locks.sql, erase.sql (erasure_order). Proven by: test/tenants/promote*.test.ts.

create or replace function rowhouse.promotion_obstacles(p_tenant text) returns table (relation regclass, obstacle text)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_blocked oid[];
  v_more oid[];
begin
  v_blocked := array(select p.relation from rowhouse.protected_tables p where p.layout <> 'partitioned');
  for relation, obstacle in
    select p.relation, case
        when c.relowner <> 'rowhouse_owner'::regrole then 'rowhouse_owner does not own it'
        when rowhouse.tenant_literal(p_tenant, p.column_type) is null then 'the id is no value of its tenant column'
        when exists (select from rowhouse.erasure_order() o where p.relation = any (o.relations) and array_length(o.relations, 1) > 1)
          then 'foreign keys form a circle through it' end
      from rowhouse.protected_tables p join pg_class c on c.oid = p.relation
      where p.layout = 'partitioned' and rowhouse.is_laid_out(p.relation)
  loop
    if obstacle is not null then
      v_blocked := v_blocked || relation::oid;
      return next;
    end if;
  end loop;
  -- Rows move by a delete, which foreign keys of tables that stay behind would refuse, or follow.
  loop
    v_more := '{}';
    for relation, obstacle in
      select distinct on (p.relation) p.relation, format('%s refers to it and cannot move with it', k.referring)
        from rowhouse.protected_tables p
        join (select coalesce(pg_partition_root(f.conrelid), f.conrelid)::regclass as referring, coalesce(pg_partition_root(f.confrelid), f.confrelid)::oid as referred
          from pg_constraint f where f.contype = 'f' and f.conparentid = 0) k on k.referred = p.relation and k.referring <> p.relation
        where p.relation::oid <> all (v_blocked)
          and (k.referring::oid = any (v_blocked) or k.referring not in (select r.relation from rowhouse.protected_tables r))
        order by p.relation, k.referring::text
    loop
      v_more := v_more || relation::oid;
      return next;
    end loop;
    exit when v_more = '{}';
    v_blocked := v_blocked || v_more;
  end loop;
end
$$;

comment on function rowhouse.promotion_obstacles(text) is
  'Tables partitioned by tenant in which the rows of this tenant cannot move into a partition of their own, with the reason.';

create or replace function rowhouse.promotable_tables(p_tenant text)
  returns table (place integer, relation regclass, tenant_column name, column_type regtype, literal text)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select o.place, p.relation, p.tenant_column, p.column_type, rowhouse.tenant_literal(p_tenant, p.column_type)
      from rowhouse.erasure_order() o, unnest(o.relations) r (relation)
      join rowhouse.protected_tables p on p.relation = r.relation
      where p.layout = 'partitioned' and rowhouse.is_laid_out(p.relation)
        and p.relation not in (select w.relation from rowhouse.own_partitions(p_tenant) w where w.relation is not null)
        and p.relation not in (select b.relation from rowhouse.promotion_obstacles(p_tenant) b)
      order by o.place;
end
$$;

comment on function rowhouse.promotable_tables(text) is
  'Tables in which this tenant has no partition of its own and can get one; place orders them, referring tables first.';

create or replace function rowhouse.absence_constraint(p_tenant text) returns name
  language sql immutable parallel safe
  return ('rowhouse_without_' || left(encode(sha256(convert_to(p_tenant, 'UTF8')), 'hex'), 24))::name;

comment on function rowhouse.absence_constraint(text) is
  'Name of the constraint that says that a shared partition holds no row of this tenant.';

create or replace function rowhouse.promotion_plan(p_tenant text) returns table (step integer, statement text, purpose text)
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_table record;
  v_leaf regclass;
  v_validated boolean;
begin
  perform rowhouse.check_tenant_id(p_tenant);
  step := 0;
  for v_table in select * from rowhouse.promotable_tables(p_tenant) loop
    for v_leaf in
      select l.leaf from rowhouse.shared_leaves(v_table.relation) l
        where l.leaf <> rowhouse.shared_leaf_of(v_table.relation, v_table.literal)
    loop
      select k.convalidated into v_validated from pg_constraint k
        where k.conrelid = v_leaf and k.conname = rowhouse.absence_constraint(p_tenant);
      continue when v_validated;
      if v_validated is null then
        step := step + 1;
        statement := format('alter table %s add constraint %I check (%I <> %s) not valid',
          v_leaf, rowhouse.absence_constraint(p_tenant), v_table.tenant_column, v_table.literal);
        purpose := 'the tenant never has rows here';
        return next;
      end if;
      step := step + 1;
      statement := format('alter table %s validate constraint %I', v_leaf, rowhouse.absence_constraint(p_tenant));
      purpose := 'reads the partition, blocks nobody; attaching need not read it then';
      return next;
    end loop;
  end loop;
end
$$;

comment on function rowhouse.promotion_plan(text) is
  'Statements that make promote_tenant short: each in a transaction of its own before it, run by a member of rowhouse_owner, or by prepare_promotion. Without them, attaching a partition reads all shared rows of the table while every tenant waits.';

create or replace function rowhouse.prepare_promotion(p_tenant text) returns text
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_status text;
  v_table record;
  v_leaf regclass;
begin
  perform rowhouse.check_tenant_id(p_tenant);
  select t.status into v_status from rowhouse.tenants t where t.tenant_id = p_tenant;
  if not rowhouse.tenant_is_here(v_status) then
    perform rowhouse.check_tenant_status(p_tenant, v_status);
  end if;
  for v_table in
    select t.relation, t.tenant_column, t.literal,
        array_agg(l.leaf) filter (where k.oid is null) as added, array_agg(l.leaf) filter (where not k.convalidated) as validated
      from rowhouse.promotable_tables(p_tenant) t
      cross join lateral rowhouse.shared_leaves(t.relation) l
      left join pg_constraint k on k.conrelid = l.leaf and k.conname = rowhouse.absence_constraint(p_tenant)
      where l.leaf <> rowhouse.shared_leaf_of(t.relation, t.literal)
      group by t.place, t.relation, t.tenant_column, t.literal
      -- What is read in a moment is not worth a lock.
      having sum(pg_relation_size(l.leaf)) > 8 * 1024 * 1024
      order by t.place
  loop
    if v_table.added is not null then
      perform rowhouse.lock_tables(v_table.added, 'access exclusive');
      foreach v_leaf in array v_table.added loop
        execute format('alter table %s add constraint %I check (%I <> %s) not valid',
          v_leaf, rowhouse.absence_constraint(p_tenant), v_table.tenant_column, v_table.literal);
      end loop;
      return v_table.relation;
    elsif v_table.validated is not null then
      foreach v_leaf in array v_table.validated loop
        execute format('alter table %s validate constraint %I', v_leaf, rowhouse.absence_constraint(p_tenant));
      end loop;
      return v_table.relation;
    end if;
  end loop;
  return null;
end
$$;

comment on function rowhouse.prepare_promotion(text) is
  'One step of promotion_plan, for all partitions of one table: call it in transactions of their own until it returns null, then promote_tenant. Returns the table. Blocks others for a moment at most. Raises RH002, RH004, RH006, RH033 (a demotion has not ended), and RH032 when a table stays in use.';

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
      left join pg_constraint k on k.conindid = i.indexrelid and k.conrelid = i.indrelid and k.contype in ('p', 'u', 'x')
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

create or replace function rowhouse.promote_tenant(p_tenant text) returns jsonb
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set lock_timeout = '60s'
  set plan_cache_mode = auto
as $$
declare
  v_before text[];
  v_schema name;
  v_relations regclass[];
  v_tables jsonb := '[]';
  v_table record;
  v_partition text;
  v_leaf regclass;
  v_rows jsonb := '{}';
  v_deleted bigint;
  v_restore text[] := '{}';
  v_statement text;
begin
  v_schema := rowhouse.enter_for_move(p_tenant);
  v_before := rowhouse.work_as(p_tenant, true);
  if v_schema is null then
    v_schema := 'rowhouse_p' || substr(replace(gen_random_uuid()::text, '-', ''), 1, 16);
    execute format('create schema %I', v_schema);
    execute format('revoke all on schema %I from public', v_schema);
    execute format('comment on schema %I is %L', v_schema, 'Partitions of one promoted tenant.');
    update rowhouse.tenants t set partition_schema = v_schema, updated_at = statement_timestamp() where t.tenant_id = p_tenant;
  end if;

  -- No table can be altered while deferred triggers wait for it.
  set constraints all immediate;
  execute format('set local plan_cache_mode = %s', rowhouse.plan_mode_for_rows());
  -- In the order in which rows are written.
  v_relations := array(select t.relation from rowhouse.promotable_tables(p_tenant) t order by t.place desc);
  perform rowhouse.lock_tables(v_relations, 'access share');
  -- Copy all, then delete all, then attach all: no foreign key ever sees a row that refers to nothing, and no cascade
  -- reaches a copy.
  for v_table in select * from rowhouse.promotable_tables(p_tenant) loop
    v_partition := format('%I.t%s', v_schema, v_table.relation::oid);
    v_leaf := rowhouse.shared_leaf_of(v_table.relation, v_table.literal);
    execute format('create table %s (like %s including all excluding indexes excluding identity)', v_partition, v_table.relation);
    execute format('comment on table %s is %L', v_partition, format('Rows of one promoted tenant of %s.', v_table.relation));
    v_rows := v_rows || jsonb_build_object(v_table.relation, rowhouse.execute_for(v_table.relation,
      format('insert into %s (%s) select %s from %s where %I = %s', v_partition,
        rowhouse.stored_columns(v_table.relation), rowhouse.stored_columns(v_table.relation),
        v_leaf, v_table.tenant_column, v_table.literal)));
    perform rowhouse.index_partition(v_table.relation, v_partition::regclass);
    execute format('analyze %s', v_partition);
    v_tables := v_tables || jsonb_build_object('place', v_table.place, 'relation', v_table.relation, 'column', v_table.tenant_column,
      'type', v_table.column_type, 'partition', v_partition, 'literal', v_table.literal, 'leaf', v_leaf);
  end loop;

  -- The rows only move: triggers of the user are told nothing of it. Disabling them needs the lock that attaching needs;
  -- where there are none, the deletes come before it.
  if exists (select from jsonb_to_recordset(v_tables) t (leaf regclass) where rowhouse.user_triggers(t.leaf) <> '{}') then
    perform rowhouse.lock_tables(v_relations, 'access exclusive');
    for v_leaf in select t.leaf from jsonb_to_recordset(v_tables) t (leaf regclass) loop
      v_restore := v_restore || rowhouse.user_triggers(v_leaf);
      execute format('alter table %s disable trigger user', v_leaf);
    end loop;
  end if;
  for v_table in
    select * from jsonb_to_recordset(v_tables) t (place integer, relation regclass, leaf regclass, "column" name, literal text)
      order by place
  loop
    v_deleted := rowhouse.execute_for(v_table.leaf,
      format('delete from %s where %I = %s', v_table.leaf, v_table."column", v_table.literal));
    if v_deleted <> (v_rows ->> v_table.relation::text)::bigint then
      raise exception using errcode = 'RH032', message = format('rows of %s changed while they were moved', v_table.relation),
        hint = 'Try again.';
    end if;
  end loop;
  foreach v_statement in array v_restore loop
    execute v_statement;
  end loop;

  perform rowhouse.lock_tables(v_relations, 'access exclusive');
  for v_table in
    select * from jsonb_to_recordset(v_tables)
      t (place integer, relation regclass, "column" name, type regtype, partition text, literal text)
      order by place desc
  loop
    execute format('alter table %s attach partition %s for values in (%s)', v_table.relation, v_table.partition, v_table.literal);
    perform rowhouse.secure_partition(v_table.partition::regclass, v_table."column", v_table.type);
    for v_leaf in
      select l.leaf from rowhouse.shared_leaves(v_table.relation) l
        join pg_constraint k on k.conrelid = l.leaf and k.conname = rowhouse.absence_constraint(p_tenant)
    loop
      execute format('alter table %s drop constraint %I', v_leaf, rowhouse.absence_constraint(p_tenant));
    end loop;
  end loop;

  perform rowhouse.finish_relocation(p_tenant);
  perform rowhouse.end_work(v_before);
  return jsonb_build_object('tenantId', p_tenant, 'schema', v_schema, 'tables', v_rows, 'skipped', (
    select coalesce(jsonb_object_agg(b.relation::text, b.obstacle), '{}') from rowhouse.promotion_obstacles(p_tenant) b));
exception
  when lock_not_available or deadlock_detected then
    raise exception using errcode = 'RH032',
      message = format('a transaction holds rows of tenant "%s" or a table, and does not finish', p_tenant),
      hint = 'End the long transactions, then try again.';
end
$$;

comment on function rowhouse.promote_tenant(text) is
  'Gives the tenant partitions of its own in every table that is partitioned by tenant, in a schema with an opaque name. Its writers wait meanwhile; other tenants wait while partitions are attached, for which prepare_promotion prepares. A tenant that goes on writing needs begin_relocation and await_entries before. Transactions in repeatable read that began before do not find the tenant''s rows afterwards. Calling it again takes in tables that came later. Needs isolation level read committed; deferred constraints of the transaction become immediate. Raises RH002, RH004, and RH032 when other transactions do not finish. Returns the rows moved for each table, and under skipped the tables left as they are with the reason.';

revoke execute on function
  rowhouse.promotion_obstacles(text), rowhouse.promotable_tables(text), rowhouse.absence_constraint(text),
  rowhouse.promotion_plan(text), rowhouse.prepare_promotion(text), rowhouse.index_partition(regclass, regclass), rowhouse.promote_tenant(text)
  from public;
grant execute on function rowhouse.promotion_plan(text), rowhouse.prepare_promotion(text), rowhouse.promote_tenant(text) to rowhouse_admin;
