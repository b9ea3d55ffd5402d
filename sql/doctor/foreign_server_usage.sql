-- name: foreign_server_usage
-- level: warning
-- summary: The role of requests may use a foreign server.
-- ramification: With an extension such as dblink, or where it may create tables, it reads there with the login of a user mapping; policies of this database don't hold there.
-- resolution: Revoke it.

select 'warning', null, 'foreign server ' || quote_ident(s.srvname), format('%s may use it', p_role),
    format('revoke usage on foreign server %I from public, %I', s.srvname, p_role)
  from pg_foreign_server s
  where not (select r.rolsuper from pg_roles r where r.rolname = p_role) and has_server_privilege(p_role, s.oid, 'usage')
