-- name: server_role
-- level: error
-- summary: The role of requests is a member of a role of the server that sees past row-level security.
-- ramification: Who reads files of the server, or runs programs there, reads the rows of all tenants; who reads all statistics sees the queries of others, with what they look for.
-- resolution: Take the membership away.

select case when r.rolname like '%server%' then 'error' else 'warning' end, null, r.rolname,
    format('%s is a member of it', p_role), format('revoke %I from %I', r.rolname, p_role)
  from pg_roles r
  where r.rolname in ('pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program', 'pg_read_all_stats')
    and not (select s.rolsuper from pg_roles s where s.rolname = p_role) and pg_has_role(p_role, r.oid, 'member')
