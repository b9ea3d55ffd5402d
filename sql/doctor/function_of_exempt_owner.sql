-- name: function_of_exempt_owner
-- level: error
-- summary: A function that runs with the rights of an owner for whom row-level security does not hold.
-- ramification: Whoever calls it reads what it reads: rows of all tenants.
-- resolution: Let it run with the rights of its caller, or give it to an ordinary owner.

select distinct on (f.object) f.*
  from (
    select 'error', null, p.oid::regprocedure::text,
        format('runs with the rights of %I, for whom row-level security does not hold, and %s may call it', o.rolname, p_role),
        format('alter function %s security invoker', p.oid::regprocedure)
      from pg_proc p
      join pg_roles o on o.oid = p.proowner
      where p.prosecdef and (o.rolsuper or o.rolbypassrls)
        and p.pronamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
        and p.prorettype <> all (array['trigger', 'event_trigger']::regtype[])
        and has_function_privilege(p_role, p.oid, 'execute') and has_schema_privilege(p_role, p.pronamespace, 'usage')
        and p.pronamespace <> pg_my_temp_schema()
        and not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
    union all
    select f.level, f."table", f.object, f.detail, f.mend
      from jsonb_to_recordset(v_protection) f (level text, kind text, "table" text, object text, detail text, mend text)
      where f.kind = 'function_of_exempt_owner'
  ) f (level, "table", object, detail, mend)
