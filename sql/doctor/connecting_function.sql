-- name: connecting_function
-- level: error
-- summary: The role of requests may call functions of an extension that open connections of their own.
-- ramification: What runs over another connection is in no tenant's transaction: SQL injected into one reads with whatever login it finds, and carries rows out of the database.
-- resolution: Move the extension to a schema on which the role has no usage, or revoke its functions from public.

select 'error', null, 'extension ' || e.extname,
    format('%s may call %s', p_role, string_agg(distinct format('%I.%I', n.nspname, p.proname), ', ')),
    format('create schema if not exists %I_only; alter extension %I set schema %I_only', e.extname, e.extname, e.extname)
  from (values ('dblink', '^dblink(_connect|_connect_u|_exec)?$'), ('http', '^http($|_)'), ('pg_net', '^http_')) k (extension, functions)
  join pg_extension e on e.extname = k.extension
  join pg_depend d on d.refclassid = 'pg_extension'::regclass and d.refobjid = e.oid and d.classid = 'pg_proc'::regclass
  join pg_proc p on p.oid = d.objid and p.proname ~ k.functions
  join pg_namespace n on n.oid = p.pronamespace
  where has_function_privilege(p_role, p.oid, 'execute') and has_schema_privilege(p_role, n.oid, 'usage')
  group by e.extname
