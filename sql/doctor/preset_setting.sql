-- name: preset_setting
-- level: error
-- summary: A role or the database turns row_security off, or triggers, from the start of every session.
-- ramification: With row_security off, queries on tenant tables fail; with session_replication_role replica, neither the write guard nor foreign keys are checked (then it is an error).
-- resolution: alter role ... reset row_security.

select case k.name when 'row_security' then 'warning' else 'error' end, null, format('%s of %s', k.name,
      case when s.setrole = 0 then 'all roles' else pg_get_userbyid(s.setrole)::text end),
    case k.name when 'row_security' then 'queries on tenant tables fail, instead of being bound by policies'
      else 'write guards and foreign keys are not checked' end,
    format('alter %s reset %s', case when s.setrole = 0 then format('database %I', current_database())
        else concat_ws(' in ', format('role %I', pg_get_userbyid(s.setrole)), case when s.setdatabase <> 0 then format('database %I', current_database()) end) end,
      k.name)
  from pg_db_role_setting s
  cross join unnest(s.setconfig) c (setting)
  cross join lateral (select split_part(c.setting, '=', 1) as name, split_part(c.setting, '=', 2) as value) k
  where s.setdatabase in (0, (select d.oid from pg_database d where d.datname = current_database()))
    and (k.name = 'row_security' and not k.value::boolean or k.name = 'session_replication_role' and k.value = 'replica')
