-- name: function_search_path
-- level: warning
-- summary: A function that a policy calls has no fixed search_path.
-- ramification: Whoever sets search_path, or creates a temporary object, decides what the policy compares with.
-- resolution: alter function ... set search_path = pg_catalog, pg_temp, and qualify the names in it.

select distinct 'warning', rowhouse.qualified_name(p.polrelid), f.oid::regprocedure::text,
    format('policy %I calls it, and it finds objects where its caller puts them', p.polname),
    format('alter function %s set search_path = pg_catalog, pg_temp', f.oid::regprocedure)
  from pg_policy p
  join pg_depend d on d.classid = 'pg_policy'::regclass and d.objid = p.oid and d.refclassid = 'pg_proc'::regclass
  join pg_proc f on f.oid = d.refobjid
  where f.prosqlbody is null and f.prolang not in (select l.oid from pg_language l where l.lanname in ('internal', 'c'))
    and not exists (select from unnest(f.proconfig) s (setting) where s.setting ~ '^search_path=(.*, *)?"?pg_temp"?$')
