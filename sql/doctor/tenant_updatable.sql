-- name: tenant_updatable
-- level: warning
-- summary: The role of requests may update the tenant of a row.
-- ramification: Policies refuse rows that would go to another tenant; this is one line of defence less.
-- resolution: Protect the table again, which grants every column but this one.

select distinct on (f.object) f.*
  from (
    select 'warning', r.root_name, r.relation_name, format('%s may update the tenant of a row', p_role),
        format('select rowhouse.protect_table(%L, %L)', r.root_name, r.tenant_column)
      from rowhouse.tenant_relations() r
      where not r.is_partition and has_column_privilege(p_role, r.relation, r.tenant_column, 'update')
    union all
    select f.level, f."table", f."table", f.detail, f.mend from jsonb_to_recordset(v_protection) f (level text, kind text, "table" text, detail text, mend text)
      where f.kind = 'tenant_updatable'
  ) f (level, "table", object, detail, mend)
