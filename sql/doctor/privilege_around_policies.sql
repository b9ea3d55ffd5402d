-- name: privilege_around_policies
-- level: error
-- summary: Somebody may truncate, refer to, or put triggers on, a tenant table.
-- ramification: These privileges are not subject to policies: TRUNCATE removes the rows of every tenant.
-- resolution: Revoke them.

select distinct on (f.object) f.*
  from (
    select 'error', r.root_name, format('%s on %s', h.privileges, r.relation_name), format('%s may use it on rows of every tenant', p_role),
        format('revoke %s on %s from public, %I', h.privileges, r.relation_name, p_role)
      from rowhouse.tenant_relations() r
      cross join lateral (
        select string_agg(v.privilege, ', ' order by v.privilege) as privileges
          from unnest(array['REFERENCES', 'TRIGGER', 'TRUNCATE']) v (privilege)
          where has_table_privilege(p_role, r.relation, v.privilege)
            or v.privilege = 'REFERENCES' and has_any_column_privilege(p_role, r.relation, v.privilege)
      ) h
      where not r.is_partition and h.privileges is not null
    union all
    select f.level, f."table", f.object, f.detail, f.mend
      from jsonb_to_recordset(v_protection) f (level text, kind text, "table" text, object text, detail text, mend text)
      where f.kind = 'privilege_around_policies'
  ) f (level, "table", object, detail, mend)
