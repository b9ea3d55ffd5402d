-- name: large_object_access
-- level: warning
-- summary: The role of requests may read large objects.
-- ramification: Large objects have no row-level security: every tenant reads those of all others.
-- resolution: Keep files in bytea columns of protected tables, or outside.

select 'warning', null, 'large objects', format('%s may read %s of them', p_role, count(*)), format('revoke all on large object ... from public, %I', p_role)
  from pg_largeobject_metadata l
  where exists (
    select from aclexplode(coalesce(l.lomacl, acldefault('L', l.lomowner))) a
      where a.privilege_type = 'SELECT'
        and (a.grantee = 0 or not (select s.rolsuper from pg_roles s where s.rolname = p_role) and pg_has_role(p_role, a.grantee, 'member')))
  having count(*) > 0
