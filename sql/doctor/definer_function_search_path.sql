-- name: definer_function_search_path
-- level: warning
-- summary: A function runs with the rights of its owner, without a fixed search_path that ends in pg_temp.
-- ramification: It finds objects where its caller puts them: a temporary table of the same name takes the place of the real one.
-- resolution: alter function ... set search_path = pg_catalog, pg_temp, and qualify the names in it.

select 'warning', null, p.oid::regprocedure::text, 'runs with the rights of its owner and finds objects where its caller puts them',
    format('alter function %s set search_path = pg_catalog, pg_temp', p.oid::regprocedure)
  from pg_proc p
  -- A body of the SQL standard is bound when the function is made; no path is searched when it runs.
  where p.prosecdef and p.prosqlbody is null
    and not exists (select from unnest(p.proconfig) s (setting) where s.setting ~ '^search_path=(.*, *)?"?pg_temp"?$')
    and p.pronamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
    and p.prorettype <> all (array['trigger', 'event_trigger']::regtype[])
    and has_function_privilege(p_role, p.oid, 'execute') and has_schema_privilege(p_role, p.pronamespace, 'usage')
    and p.pronamespace <> pg_my_temp_schema()
    and not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
