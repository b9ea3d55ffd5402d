-- name: policy_function_not_stable
-- level: error
-- summary: A policy calls a function that is marked immutable.
-- ramification: Its result is folded into cached plans, where the next tenant finds that of the one before.
-- resolution: alter function ... stable.

select distinct 'error', rowhouse.qualified_name(p.polrelid), f.oid::regprocedure::text,
    format('policy %I calls it, and it is not marked stable: cached plans keep what it returned for another tenant', p.polname),
    format('alter function %s stable', f.oid::regprocedure)
  from pg_policy p
  join pg_depend d on d.classid = 'pg_policy'::regclass and d.objid = p.oid and d.refclassid = 'pg_proc'::regclass
  join pg_proc f on f.oid = d.refobjid
  where f.provolatile = 'i'
