-- name: operating_role
-- level: error
-- summary: The role of requests is a member of a role of rowhouse that is not for requests.
-- ramification: A request may provision, suspend and erase tenants, or, as the owner, take the protection away.
-- resolution: Take the membership away.

select 'error', null, r.rolname, format('%s is a member of it', p_role), format('revoke %I from %I', r.rolname, p_role)
  from pg_roles r
  where r.rolname in ('rowhouse_admin', 'rowhouse_owner', 'rowhouse_search') and r.rolname <> p_role
    and not (select s.rolsuper from pg_roles s where s.rolname = p_role) and pg_has_role(p_role, r.oid, 'member')
