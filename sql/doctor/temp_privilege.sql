-- name: temp_privilege
-- level: info
-- summary: The role of requests may create temporary tables.
-- ramification: Rows in temporary tables outlive the transaction on a pooled connection. The client of rowhouse removes them; others don't.
-- resolution: revoke temporary on database ... from public, where nothing else needs it.

select 'info', null, format('database %I', current_database()), format('%s may create temporary tables in it', p_role),
    format('revoke temporary on database %I from public, %I', current_database(), p_role)
  where not (select s.rolsuper from pg_roles s where s.rolname = p_role) and has_database_privilege(p_role, current_database(), 'temporary')
