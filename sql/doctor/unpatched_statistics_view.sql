-- name: unpatched_statistics_view
-- level: error
-- summary: A view of the system shows extended statistics of tables whose rows its reader may not see.
-- ramification: The database was made by a release without the fix of CVE-2024-4317, which updating the server alone does not bring: with extended statistics on a tenant table, a tenant reads values of others.
-- resolution: Run fix-CVE-2024-4317.sql, which is among the files of the server, in this database, as superuser.

select 'error', rowhouse.qualified_name(c.oid), rowhouse.qualified_name(c.oid), 'shows statistics to others than the owner of the table',
    'psql -f "$(pg_config --sharedir)/fix-CVE-2024-4317.sql"'
  from pg_class c
  where c.oid in ('pg_stats_ext'::regclass, 'pg_stats_ext_exprs'::regclass) and pg_get_viewdef(c.oid) !~ 'pg_has_role'
