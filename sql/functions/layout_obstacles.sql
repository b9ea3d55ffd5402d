-- What keeps a plain table from being replaced by a partitioned one.
--
-- Whatever the replacement would lose is an obstacle: better refused than gone.
-- Depends on: nothing. Proven by: test/protect/layout-obstacles.test.ts.

create or replace function rowhouse.layout_obstacles(p_table regclass, p_column name)
  returns table (object text, detail text)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_class pg_class;
  v_attribute smallint;
begin
  select c.* into v_class from pg_class c where c.oid = p_table;
  select a.attnum into v_attribute from pg_attribute a where a.attrelid = p_table and a.attname = p_column;
  return query
    select format('table %s', p_table), o.detail
      from (values
        (v_class.relkind <> 'r' or v_class.relispartition, 'it is no plain table'),
        (not pg_has_role(current_user, 'rowhouse_owner', 'usage'),
          format('%I is no member of rowhouse_owner, which will own it; run it as the login that migrates', current_user)),
        (v_class.relpersistence = 'u', 'it is unlogged'),
        (v_class.reloftype <> 0, 'it is a table of a composite type'),
        (v_class.reltablespace <> 0, 'it is in a tablespace of its own'),
        (v_class.relreplident not in ('d', 'n'), 'it has a replica identity of its own')
      ) o (present, detail)
      where o.present;
  return query
    select format('key %I', c.relname), format('a unique index of a table partitioned by %I must contain that column', p_column)
      from pg_index i join pg_class c on c.oid = i.indexrelid
      where i.indrelid = p_table and i.indisunique and v_attribute <> all ((i.indkey::smallint[])[0 : i.indnkeyatts - 1]);
  return query
    select format('exclusion constraint %I', k.conname), 'a partitioned table cannot have it'
      from pg_constraint k
      where k.conrelid = p_table and k.contype = 'x'
        and (current_setting('server_version_num')::integer < 170000 or v_attribute <> all (k.conkey));
  return query
    select format('foreign key %I', k.conname), 'it is not validated, which a partitioned table does not allow'
      from pg_constraint k where k.conrelid = p_table and k.contype = 'f' and not k.convalidated;
  return query
    select format('foreign key %I of %s', k.conname, k.conrelid::regclass),
        format('it has to be made anew, and %I does not own its table', current_user)
      from pg_constraint k join pg_class c on c.oid = k.conrelid
      where k.confrelid = p_table and k.contype = 'f' and k.conrelid <> p_table and k.conparentid = 0
        and not pg_has_role(current_user, c.relowner, 'usage');
  return query
    select format('trigger %I', t.tgname), 'a trigger for each row of a partitioned table cannot have transition tables'
      from pg_trigger t
      where t.tgrelid = p_table and not t.tgisinternal and t.tgtype & 1 = 1 and (t.tgoldtable is not null or t.tgnewtable is not null);
  return query
    select format('policy %I', p.polname), 'it would be lost'
      from pg_policy p where p.polrelid = p_table and p.polname not in ('rowhouse_tenant', 'rowhouse_isolation');
  return query
    select format('rule %I', r.rulename), 'it would be lost'
      from pg_rewrite r where r.ev_class = p_table;
  return query
    select format('publication %I', p.pubname), 'the table would leave it'
      from pg_publication_rel pr join pg_publication p on p.oid = pr.prpubid where pr.prrelid = p_table;
  return query
    select format('table %s', i.inhrelid::regclass), 'it inherits from this table'
      from pg_inherits i where i.inhparent = p_table;
  -- Views, functions, columns of its row type, policies of other tables: all that depends on the table itself.
  return query
    select pg_describe_object(d.classid, d.objid, 0), 'it depends on the table and would have to be dropped while the table is replaced'
      from pg_depend d
      left join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid
      left join pg_policy p on d.classid = 'pg_policy'::regclass and p.oid = d.objid
      where d.deptype = 'n'
        and ((d.refclassid = 'pg_class'::regclass and d.refobjid = p_table)
          or (d.refclassid = 'pg_type'::regclass
            and d.refobjid in (v_class.reltype, (select y.typarray from pg_type y where y.oid = v_class.reltype))))
        and (r.ev_class <> p_table or p.polrelid <> p_table
          or d.classid = any (array['pg_proc', 'pg_class', 'pg_type', 'pg_cast', 'pg_operator']::regclass[]))
      group by d.classid, d.objid;
end
$$;

comment on function rowhouse.layout_obstacles(regclass, name) is
  'What keeps a plain table from being replaced by a partitioned one; no row when nothing does.';

revoke execute on function rowhouse.layout_obstacles(regclass, name) from public;
grant execute on function rowhouse.layout_obstacles(regclass, name) to rowhouse_admin;
