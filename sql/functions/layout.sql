-- Layout: turns a table into one that is partitioned by tenant.
--
--   table, list by tenant
--    |- default partition, hash by tenant: 16 partitions, shared by the tenants
--    '- one list partition for each promoted tenant (promote.sql)
--
-- The one place that decides how tenant tables are laid out; used for the tables of rowhouse and the user's.
-- Depends on: policies.sql. Proven by: test/protect/layout.test.ts.

create or replace function rowhouse.is_laid_out(p_table regclass) returns boolean
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (
    select from pg_inherits i
      where i.inhparent = p_table and i.inhrelid = to_regclass(format('rowhouse_partitions.t%s_shared', p_table::oid)));
end
$$;

comment on function rowhouse.is_laid_out(regclass) is 'Whether the table has the shared partitions of this layout.';

create or replace function rowhouse.layout_obstacles(p_table regclass, p_column name)
  returns table (object text, detail text)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_attribute smallint;
begin
  select a.attnum into v_attribute from pg_attribute a where a.attrelid = p_table and a.attname = p_column;
  return query
    select format('key %I', c.relname), format('a unique index of a table partitioned by %I must contain that column', p_column)
      from pg_index i join pg_class c on c.oid = i.indexrelid
      where i.indrelid = p_table and (i.indisunique or i.indisexclusion) and v_attribute <> all (i.indkey::smallint[]);
  return query
    select format('foreign key %I of %s', c.conname, c.conrelid::regclass),
        'it refers to this table and would have to be dropped while the table is replaced'
      from pg_constraint c where c.confrelid = p_table and c.contype = 'f' and c.conrelid <> p_table;
  return query
    select format('view %s', r.ev_class::regclass), 'it reads this table and would have to be dropped while the table is replaced'
      from pg_depend d join pg_rewrite r on r.oid = d.objid
      where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = p_table
        and r.ev_class <> p_table
      group by r.ev_class;
  return query
    select format('policy %I', p.polname), 'it would be lost'
      from pg_policy p where p.polrelid = p_table and p.polname not in ('rowhouse_tenant', 'rowhouse_isolation');
  return query
    select format('publication %I', p.pubname), 'the table would leave it'
      from pg_publication_rel pr join pg_publication p on p.oid = pr.prpubid where pr.prrelid = p_table;
  return query
    select format('table %s', i.inhrelid::regclass), 'it inherits from this table'
      from pg_inherits i where i.inhparent = p_table;
end
$$;

comment on function rowhouse.layout_obstacles(regclass, name) is
  'What keeps a plain table from being replaced by a partitioned one; no row when nothing does.';

create or replace function rowhouse.table_definition(p_table regclass) returns text[]
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_statements text[];
begin
  -- Keys first, then other indexes, foreign keys, triggers, privileges, the comment: each under its own name.
  select coalesce(array_agg(s.statement order by s.place, s.statement), '{}') into v_statements
    from (
      select 1 as place, format('alter table %s add constraint %I %s', p_table, c.conname, pg_get_constraintdef(c.oid)) as statement
        from pg_constraint c where c.conrelid = p_table and c.contype in ('p', 'u', 'x')
      union all
      select 2, pg_get_indexdef(i.indexrelid)
        from pg_index i
        where i.indrelid = p_table
          and not exists (select from pg_constraint c where c.conindid = i.indexrelid and c.conrelid = p_table)
      union all
      select 3, format('alter table %s add constraint %I %s', p_table, c.conname, pg_get_constraintdef(c.oid))
        from pg_constraint c where c.conrelid = p_table and c.contype = 'f'
      union all
      select 4, pg_get_triggerdef(t.oid) from pg_trigger t where t.tgrelid = p_table and not t.tgisinternal
      union all
      select 5, format('grant %s on %s to %s%s', a.privilege_type, p_table,
          case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,
          case when a.is_grantable then ' with grant option' else '' end)
        from pg_class c, aclexplode(c.relacl) a
        where c.oid = p_table and a.grantee <> c.relowner
      union all
      select 5, format('grant %s (%I) on %s to %s%s', a.privilege_type, t.attname, p_table,
          case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,
          case when a.is_grantable then ' with grant option' else '' end)
        from pg_attribute t, aclexplode(t.attacl) a
        where t.attrelid = p_table and t.attnum > 0 and not t.attisdropped
      union all
      select 6, format('comment on table %s is %L', p_table, obj_description(p_table, 'pg_class'))
        where obj_description(p_table, 'pg_class') is not null
    ) s;
  return v_statements;
end
$$;

comment on function rowhouse.table_definition(regclass) is
  'The statements that give an empty table of this name the keys, indexes, foreign keys, triggers, privileges and comment that this table has now.';

create or replace function rowhouse.create_shared_partitions(p_table regclass, p_column name, p_type regtype, p_partitions integer)
  returns void
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
      v_leaf, v_default, p_partitions, v_number);
    execute format('comment on table %s is %L', v_leaf,
      format('Part %s of %s of the shared rows of %s.', v_number + 1, p_partitions, p_table));
    perform rowhouse.secure_partition(v_leaf::regclass, p_column, p_type);
  end loop;
end
$$;

comment on function rowhouse.create_shared_partitions(regclass, name, regtype, integer) is
  'Makes the default partition and its hash partitions. Names hold the object id of the table, never a tenant.';

create or replace function rowhouse.lay_out_table(p_table regclass, p_column name default 'tenant_id', p_partitions integer default 16)
  returns regclass
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_name text := p_table::text;
  v_class pg_class;
  v_type regtype;
  v_obstacles text;
  v_definition text[];
  v_old text;
  v_new regclass;
  v_columns text;
  v_sequence record;
  v_statement text;
  v_partition regclass;
begin
  select c.* into v_class from pg_class c where c.oid = p_table;
  select a.atttypid into v_type from pg_attribute a where a.attrelid = p_table and a.attname = p_column;
  if v_class.relkind <> 'r' or v_class.relispartition then
    raise exception using errcode = 'RH010', message = format('%s is not a plain table, so it cannot be laid out by tenant', v_name);
  end if;
  select string_agg(format('%s: %s', o.object, o.detail), '; ' order by o.object) into v_obstacles
    from rowhouse.layout_obstacles(p_table, p_column) o;
  if v_obstacles is not null then
    raise exception using errcode = 'RH010', message = format('%s cannot be partitioned by tenant', v_name),
      detail = v_obstacles, hint = 'Protect it without partitions, or remove what the detail names first.';
  end if;

  v_definition := rowhouse.table_definition(p_table);
  v_columns := rowhouse.stored_columns(p_table);
  v_old := format('rowhouse_replaced_%s', p_table::oid);
  if v_class.relrowsecurity then
    execute format('alter table %s disable row level security', v_name);
  end if;
  execute format('alter table %s rename to %I', v_name, v_old);
  v_old := p_table::text;

  execute format('create table %s (like %s including all excluding indexes) partition by list (%I)', v_name, v_old, p_column);
  v_new := v_name::regclass;
  perform rowhouse.create_shared_partitions(v_new, p_column, v_type, p_partitions);
  execute format('insert into %s (%s) overriding system value select %s from %s', v_name, v_columns, v_columns, v_old);

  for v_sequence in
    select s.oid::regclass as relation, a.attname, d.deptype
      from pg_depend d
      join pg_class s on s.oid = d.objid and s.relkind = 'S'
      join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
      where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = p_table
        and d.deptype in ('a', 'i')
  loop
    if v_sequence.deptype = 'a' then
      execute format('alter sequence %s owned by %s.%I', v_sequence.relation, v_name, v_sequence.attname);
    else
      -- The identity column of the new table has a sequence of its own, which continues where the old one stood.
      execute format('select setval(pg_get_serial_sequence(%L, %L), last_value, is_called) from %s',
        v_name, v_sequence.attname, v_sequence.relation);
    end if;
  end loop;
  execute format('drop table %s', v_old);
  foreach v_statement in array v_definition loop
    execute v_statement;
  end loop;

  for v_statement in select * from rowhouse.policy_statements(v_new, p_column, v_type) loop
    execute v_statement;
  end loop;

  -- Promotion runs as rowhouse_owner and must own what it attaches partitions to. Members of that role, as the login
  -- that migrates is, keep every right of an owner.
  if v_class.relowner <> 'rowhouse_owner'::regrole then
    execute format('grant create on schema %s to rowhouse_owner', v_class.relnamespace::regnamespace);
    for v_partition in select t.relid from pg_partition_tree(v_new) t loop
      execute format('alter table %s owner to rowhouse_owner', v_partition);
    end loop;
    execute format('revoke create on schema %s from rowhouse_owner', v_class.relnamespace::regnamespace);
    execute format('grant all on %s to %I', v_new, pg_get_userbyid(v_class.relowner));
  end if;
  return v_new;
end
$$;

comment on function rowhouse.lay_out_table(regclass, name, integer) is
  'Replaces a plain table by one of the same name, definition and rows that is partitioned by tenant, owned by rowhouse_owner. Raises RH010 with what stands in the way.';

revoke execute on function
  rowhouse.is_laid_out(regclass), rowhouse.layout_obstacles(regclass, name), rowhouse.table_definition(regclass),
  rowhouse.create_shared_partitions(regclass, name, regtype, integer), rowhouse.lay_out_table(regclass, name, integer)
  from public;
grant execute on function
  rowhouse.is_laid_out(regclass), rowhouse.layout_obstacles(regclass, name), rowhouse.table_definition(regclass),
  rowhouse.create_shared_partitions(regclass, name, regtype, integer), rowhouse.lay_out_table(regclass, name, integer)
  to rowhouse_admin;
