-- name: exempt_role
-- level: error
-- summary: Row-level security does not hold for the role of requests, or for a role that it may become.
-- ramification: Superusers and roles with BYPASSRLS see the rows of all tenants.
-- resolution: Take the attribute or the membership away.

select 'error', null, r.rolname,
    case when r.rolname = p_role then 'row-level security does not hold for it: it is a superuser or has BYPASSRLS'
      else format('%s may become this role, for which row-level security does not hold', p_role) end,
    case when r.rolname = p_role then format('alter role %I nosuperuser nobypassrls', r.rolname)
      else format('revoke %I from %I', r.rolname, p_role) end
  from pg_roles r
  where (r.rolsuper or r.rolbypassrls)
    and (r.rolname = p_role or not (select s.rolsuper from pg_roles s where s.rolname = p_role) and pg_has_role(p_role, r.oid, 'member'))
