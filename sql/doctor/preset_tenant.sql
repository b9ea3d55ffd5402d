-- name: preset_tenant
-- level: error
-- summary: A role or the database sets app.tenant_id from the start of every session.
-- ramification: No tenant is not no rows: whoever forgets to set a tenant works as this one.
-- resolution: alter role ... reset app.tenant_id.

select 'error', null, case when s.setrole = 0 then 'all roles' else pg_get_userbyid(s.setrole)::text end,
    format('%s is set from the start of every session', split_part(c.setting, '=', 1)),
    format('alter %s reset %s', case when s.setrole = 0 then format('database %I', current_database())
        else concat_ws(' in ', format('role %I', pg_get_userbyid(s.setrole)), case when s.setdatabase <> 0 then format('database %I', current_database()) end) end,
      split_part(c.setting, '=', 1))
  from pg_db_role_setting s
  cross join unnest(s.setconfig) c (setting)
  where s.setdatabase in (0, (select d.oid from pg_database d where d.datname = current_database()))
    and split_part(c.setting, '=', 1) = 'app.tenant_id'
