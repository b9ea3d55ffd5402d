-- name: materialized_view
-- level: error
-- summary: The role of requests reaches a materialized view.
-- ramification: Row-level security does not exist for materialized views: every tenant reads all of it.
-- resolution: Revoke its privileges, or use a view with security_invoker.

select 'error', r.name, r.name, format('row-level security does not exist for materialized views, and %s may %s', p_role, array_to_string(r.privileges, ', ')),
    format('revoke all on %s from public, %I', r.name, p_role)
  from rowhouse.reachable_relations(p_role) r
  where r.kind = 'm' and r.relation <> all (p_shared::oid[])
