-- name: default_privileges
-- level: warning
-- summary: Default privileges grant the role of requests something on tables that are created later.
-- ramification: A new table, or a new partition, is open before anybody protects it.
-- resolution: Revoke them; protect_table grants what is needed.

select 'warning', null, concat_ws(' ', format('tables of %I', pg_get_userbyid(d.defaclrole)), 'in schema ' || nullif(d.defaclnamespace, 0)::regnamespace),
    format('%s gets %s on tables that are created later, before anybody protects them',
      case a.grantee when 0 then 'public' else pg_get_userbyid(a.grantee)::text end,
      string_agg(lower(a.privilege_type), ', ' order by a.privilege_type)),
    format('alter default privileges for role %I%s revoke all on tables from %s', pg_get_userbyid(d.defaclrole),
      coalesce(format(' in schema %s', nullif(d.defaclnamespace, 0)::regnamespace), ''),
      case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end)
  from pg_default_acl d
  cross join aclexplode(d.defaclacl) a
  where d.defaclobjtype = 'r' and a.grantee <> d.defaclrole
    and (a.grantee = 0 or pg_has_role(p_role, a.grantee, 'member'))
  group by d.oid, d.defaclrole, d.defaclnamespace, a.grantee
