-- name: statistics_privilege
-- level: error
-- summary: The role of requests may read the statistics of the planner.
-- ramification: They hold the most common values of every column, of all tenants, and have no row-level security. The views pg_stats and pg_stats_ext leave out what their reader may not see; these tables don't.
-- resolution: Revoke it.

select 'error', null, rowhouse.qualified_name(c.oid), format('%s may read it', p_role),
    format('revoke select on %s from public, %I', c.oid::regclass, p_role)
  from pg_class c
  where c.oid in ('pg_statistic'::regclass, 'pg_statistic_ext_data'::regclass)
    and not (select s.rolsuper from pg_roles s where s.rolname = p_role) and has_any_column_privilege(p_role, c.oid, 'select')
