-- name: leakproof_function
-- level: warning
-- summary: A function outside of the system is marked leakproof.
-- ramification: It sees the rows of all tenants: the planner may call it before the policies.
-- resolution: alter function ... not leakproof.

select 'warning', null, p.oid::regprocedure::text, 'is marked leakproof, so it may be called on rows of other tenants before the policies',
    format('alter function %s not leakproof', p.oid::regprocedure)
  from pg_proc p
  where p.proleakproof and p.pronamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
    and not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
