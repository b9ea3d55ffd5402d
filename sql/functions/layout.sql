-- Layout: turns a table into one that is partitioned by tenant.
--
--   table, list by tenant
--    |- default partition, hash by tenant: 16 partitions, shared by the tenants
--    '- one list partition for each promoted tenant (promote.sql)
--
-- The one place that decides how tenant tables are laid out; used for the tables of rowhouse and the user's.
-- Depends on: policies.sql, layout_obstacles.sql. Proven by: test/protect/layout.test.ts.

create or replace function rowhouse.is_laid_out(p_table regclass) returns boolean
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- By the catalogs alone: who asks may have no right to look into the schema.
  return exists (
    select from pg_inherits i join pg_class c on c.oid = i.inhrelid join pg_namespace n on n.oid = c.relnamespace
      where i.inhparent = p_table and n.nspname = 'rowhouse_partitions' and c.relname = format('t%s_shared', p_table::oid));
end
$$;

comment on function rowhouse.is_laid_out(regclass) is 'Whether the table has the shared partitions of this layout.';

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

create or replace function rowhouse.table_definition(p_table regclass, p_parts text[]) returns setof text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    with constraints as (
      -- Not those that Postgres made for each partition of another table.
      select c.* from pg_constraint c where c.conrelid = p_table and c.conparentid = 0
    ), parts as (
      select 'index' as part, 1 as place, format('alter table %s add constraint %I %s', p_table, c.conname, pg_get_constraintdef(c.oid)) as statement
        from constraints c where c.contype in ('p', 'u', 'x')
      union all
      select 'index', 2, pg_get_indexdef(i.indexrelid)
        from pg_index i
        where i.indrelid = p_table and not exists (select from constraints c where c.conindid = i.indexrelid and c.contype in ('p', 'u', 'x'))
      union all
      select 'index', 3, format('comment on index %s is %L', i.indexrelid::regclass, obj_description(i.indexrelid, 'pg_class'))
        from pg_index i where i.indrelid = p_table and obj_description(i.indexrelid, 'pg_class') is not null
      union all
      -- Foreign keys of other tables: they refer to the table by its name again once it is there.
      select 'reference', 1, format('alter table %s add constraint %I %s', c.conrelid::regclass, c.conname, pg_get_constraintdef(c.oid))
        from pg_constraint c where c.contype = 'f' and c.confrelid = p_table and c.conrelid <> p_table and c.conparentid = 0
      union all
      select 'reference', 2, format('comment on constraint %I on %s is %L', c.conname, c.conrelid::regclass, obj_description(c.oid, 'pg_constraint'))
        from pg_constraint c
        where c.contype = 'f' and c.confrelid = p_table and c.conrelid <> p_table and c.conparentid = 0
          and obj_description(c.oid, 'pg_constraint') is not null
      union all
      select 'rest', 1, format('alter table %s add constraint %I %s', p_table, c.conname, pg_get_constraintdef(c.oid))
        from constraints c where c.contype = 'f'
      union all
      select 'rest', 2, format('comment on constraint %I on %s is %L', c.conname, p_table, obj_description(c.oid, 'pg_constraint'))
        from constraints c where c.contype in ('p', 'u', 'x', 'f') and obj_description(c.oid, 'pg_constraint') is not null
      union all
      select 'rest', 3, pg_get_triggerdef(t.oid) from pg_trigger t where t.tgrelid = p_table and not t.tgisinternal
      union all
      select 'rest', 4, format('alter table %s %s trigger %I', p_table,
          case t.tgenabled when 'D' then 'disable' when 'R' then 'enable replica' else 'enable always' end, t.tgname)
        from pg_trigger t where t.tgrelid = p_table and not t.tgisinternal and t.tgenabled <> 'O'
      union all
      select 'rest', 4, format('comment on trigger %I on %s is %L', t.tgname, p_table, obj_description(t.oid, 'pg_trigger'))
        from pg_trigger t where t.tgrelid = p_table and not t.tgisinternal and obj_description(t.oid, 'pg_trigger') is not null
      union all
      select 'rest', 5, format('grant %s on %s to %s%s', a.privilege_type, p_table,
          case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,
          case when a.is_grantable then ' with grant option' else '' end)
        from pg_class c, aclexplode(c.relacl) a
        where c.oid = p_table and a.grantee <> c.relowner
      union all
      select 'rest', 5, format('grant %s (%I) on %s to %s%s', a.privilege_type, t.attname, p_table,
          case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,
          case when a.is_grantable then ' with grant option' else '' end)
        from pg_attribute t, aclexplode(t.attacl) a
        where t.attrelid = p_table and t.attnum > 0 and not t.attisdropped
      union all
      select 'rest', 6, format('alter table %s alter column %I set statistics %s', p_table, t.attname, t.attstattarget)
        from pg_attribute t where t.attrelid = p_table and t.attnum > 0 and not t.attisdropped and t.attstattarget >= 0
      union all
      select 'rest', 6, format('alter table %s alter column %I set (%s)', p_table, t.attname, array_to_string(t.attoptions, ', '))
        from pg_attribute t where t.attrelid = p_table and t.attnum > 0 and not t.attisdropped and t.attoptions is not null
      union all
      select 'rest', 7, format('comment on table %s is %L', p_table, obj_description(p_table, 'pg_class'))
        where obj_description(p_table, 'pg_class') is not null
    )
    select p.statement from parts p
      where p.part = any (p_parts)
      order by array_position(p_parts, p.part), p.place, p.statement;
end
$$;

comment on function rowhouse.table_definition(regclass, text[]) is
  'The statements that give an empty table of this name what this table has now. Parts: index (keys and indexes), reference (foreign keys of other tables that refer to it), rest (its own foreign keys, triggers, privileges, comments).';

create or replace function rowhouse.create_shared_partitions(
  p_table regclass, p_column name, p_type regtype, p_partitions integer, p_options text[] default null
) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_default text := format('rowhouse_partitions.t%s_shared', p_table::oid);
  v_leaf text;
begin
  execute format('create table %s partition of %s default partition by hash (%I)', v_default, p_table, p_column);
  execute format('comment on table %s is %L', v_default,
    format('Rows of the tenants of %s that have no partition of their own.', p_table));
  perform rowhouse.secure_partition(v_default::regclass, p_column, p_type);
  for v_number in 0 .. p_partitions - 1 loop
    v_leaf := format('%s_%s', v_default, lpad(v_number::text, 2, '0'));
    execute format('create table %s partition of %s for values with (modulus %s, remainder %s)',
        v_leaf, v_default, p_partitions, v_number)
      || coalesce(' with (' || array_to_string(p_options, ', ') || ')', '');
    execute format('comment on table %s is %L', v_leaf,
      format('Part %s of %s of the shared rows of %s.', v_number + 1, p_partitions, p_table));
    perform rowhouse.secure_partition(v_leaf::regclass, p_column, p_type);
  end loop;
end
$$;

comment on function rowhouse.create_shared_partitions(regclass, name, regtype, integer, text[]) is
  'Makes the default partition and its hash partitions, with these storage options. Names hold the object id of the table, never a tenant.';

create or replace function rowhouse.take_over_sequences(p_old regclass, p_new regclass) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_sequence record;
  v_new text;
begin
  for v_sequence in
    select s.oid::regclass as relation, s.relname, a.attname, d.deptype
      from pg_depend d
      join pg_class s on s.oid = d.objid and s.relkind = 'S'
      join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
      where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = p_old
        and d.deptype in ('a', 'i')
  loop
    if v_sequence.deptype = 'a' then
      execute format('alter sequence %s owned by %s.%I', v_sequence.relation, p_new, v_sequence.attname);
    else
      -- The identity column of the new table has a sequence of its own: it takes over number and name of the old one.
      v_new := pg_get_serial_sequence(p_new::text, v_sequence.attname);
      execute format('select setval(%L, last_value, is_called) from %s', v_new, v_sequence.relation);
      execute format('alter sequence %s rename to %I', v_sequence.relation, format('rowhouse_replaced_%s', v_sequence.relation::oid));
      execute format('alter sequence %s rename to %I', v_new, v_sequence.relname);
    end if;
  end loop;
end
$$;

comment on function rowhouse.take_over_sequences(regclass, regclass) is
  'Lets the serial and identity columns of the new table go on where those of the old one stand.';

create or replace function rowhouse.lay_out_table(p_table regclass, p_column name default 'tenant_id', p_partitions integer default 16)
  returns regclass
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_caller_tenant text := current_setting('app.tenant_id', true);
  v_name text := p_table::text;
  v_old text := format('rowhouse_replaced_%s', p_table::oid);
  v_class pg_class;
  v_type regtype := rowhouse.tenant_column_type(p_table, p_column);
  v_obstacles text;
  v_indexes text[];
  v_references text[];
  v_rest text[];
  v_new regclass;
  v_columns text;
  v_statement text;
  v_reference record;
begin
  execute format('lock table only %s in access exclusive mode', v_name);
  if current_setting('transaction_isolation') <> 'read committed' and pg_relation_size(p_table) > 0 then
    raise exception using errcode = 'invalid_transaction_state',
      message = 'a table that has rows can be partitioned in isolation level read committed only',
      hint = 'An older snapshot does not see rows that were written meanwhile. begin isolation level read committed';
  end if;
  select c.* into v_class from pg_class c where c.oid = p_table;
  select string_agg(format('%s: %s', o.object, o.detail), '; ' order by o.object) into v_obstacles
    from rowhouse.layout_obstacles(p_table, p_column) o;
  if v_obstacles is not null then
    raise exception using errcode = 'RH010', message = format('%s cannot be partitioned by tenant', v_name),
      detail = v_obstacles, hint = 'Protect it without partitions, or remove what the detail names first.';
  end if;

  v_indexes := array(select rowhouse.table_definition(p_table, array['index']));
  v_references := array(select rowhouse.table_definition(p_table, array['reference']));
  v_rest := array(select rowhouse.table_definition(p_table, array['rest']));
  v_columns := rowhouse.stored_columns(p_table);
  for v_reference in
    select k.conname, k.conrelid::regclass as relation from pg_constraint k
      where k.contype = 'f' and k.confrelid = p_table and k.conrelid <> p_table and k.conparentid = 0
  loop
    execute format('alter table %s drop constraint %I', v_reference.relation, v_reference.conname);
  end loop;
  if v_class.relrowsecurity then
    execute format('alter table %s disable row level security', v_name);
  end if;
  execute format('alter table %s rename to %I', v_name, v_old);
  v_old := p_table::text;

  execute format('create table %s (like %s including all excluding indexes) partition by list (%I)', v_name, v_old, p_column);
  v_new := v_name::regclass;
  perform rowhouse.create_shared_partitions(v_new, p_column, v_type, p_partitions, v_class.reloptions);
  perform rowhouse.execute_for(v_new,
    format('insert into %s (%s) overriding system value select %s from %s', v_name, v_columns, v_columns, v_old));
  perform rowhouse.take_over_sequences(p_table, v_new);
  execute format('drop table %s', v_old);

  -- Other tables' foreign keys while every row can be seen, its own ones when none can: they held before, and Postgres
  -- cannot look through the policies of the tables that they refer to.
  set local app.tenant_id = '';
  foreach v_statement in array v_indexes || v_references loop
    execute v_statement;
  end loop;
  for v_statement in select * from rowhouse.policy_statements(v_new, p_column, v_type) loop
    execute v_statement;
  end loop;
  foreach v_statement in array v_rest loop
    execute v_statement;
  end loop;
  execute format('set local app.tenant_id = %L', coalesce(v_caller_tenant, ''));
  perform rowhouse.give_to_owner(v_new, v_class.relowner);
  return v_new;
end
$$;

comment on function rowhouse.lay_out_table(regclass, name, integer) is
  'Replaces a plain table by one of the same name, definition and rows that is partitioned by tenant, owned by rowhouse_owner. Raises RH010 with what stands in the way, 25000 in other isolation levels than read committed unless the table is empty.';

create or replace function rowhouse.give_to_owner(p_table regclass, p_owner oid) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_schema regnamespace;
  v_may_create boolean;
  v_partition regclass;
begin
  if p_owner = 'rowhouse_owner'::regrole then
    return;
  end if;
  -- Promotion runs as rowhouse_owner and must own what it attaches partitions to. Members of that role, as the login
  -- that migrates is, keep every right of an owner.
  select c.relnamespace, has_schema_privilege('rowhouse_owner', c.relnamespace, 'create') into v_schema, v_may_create
    from pg_class c where c.oid = p_table;
  if not v_may_create then
    execute format('grant create on schema %s to rowhouse_owner', v_schema);
  end if;
  for v_partition in select t.relid from pg_partition_tree(p_table) t loop
    execute format('alter table %s owner to rowhouse_owner', v_partition);
  end loop;
  if not v_may_create then
    execute format('revoke create on schema %s from rowhouse_owner', v_schema);
  end if;
  execute format('grant all on %s to %I', p_table, pg_get_userbyid(p_owner));
end
$$;

comment on function rowhouse.give_to_owner(regclass, oid) is
  'Makes rowhouse_owner the owner of a table and its partitions; the owner until now keeps all privileges on the table.';

revoke execute on function
  rowhouse.is_laid_out(regclass), rowhouse.stored_columns(regclass), rowhouse.table_definition(regclass, text[]),
  rowhouse.create_shared_partitions(regclass, name, regtype, integer, text[]),
  rowhouse.take_over_sequences(regclass, regclass), rowhouse.lay_out_table(regclass, name, integer),
  rowhouse.give_to_owner(regclass, oid)
  from public;
grant execute on function
  rowhouse.is_laid_out(regclass), rowhouse.stored_columns(regclass), rowhouse.table_definition(regclass, text[]),
  rowhouse.create_shared_partitions(regclass, name, regtype, integer, text[]),
  rowhouse.take_over_sequences(regclass, regclass), rowhouse.lay_out_table(regclass, name, integer),
  rowhouse.give_to_owner(regclass, oid)
  to rowhouse_admin;
