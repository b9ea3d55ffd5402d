-- name: create_privilege
-- level: error
-- summary: The role of requests may create objects.
-- ramification: What it creates has no policies, and is found by the bare names of others.
-- resolution: Revoke it.

select 'error', null, format('schema %I', n.nspname), format('%s may create objects in it', p_role),
    format('revoke create on schema %I from public, %I', n.nspname, p_role)
  from pg_namespace n
  where not (select s.rolsuper from pg_roles s where s.rolname = p_role) and has_schema_privilege(p_role, n.oid, 'create')
    and n.nspname not like 'pg\_temp\_%' and n.nspname not like 'pg\_toast\_temp\_%'
union all
select 'error', null, format('database %I', current_database()), format('%s may create schemas in it', p_role),
    format('revoke create on database %I from public, %I', current_database(), p_role)
  where not (select s.rolsuper from pg_roles s where s.rolname = p_role) and has_database_privilege(p_role, current_database(), 'create')
