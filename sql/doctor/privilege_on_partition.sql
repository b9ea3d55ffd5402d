-- name: privilege_on_partition
-- level: error
-- summary: Somebody may use a partition of a tenant table directly.
-- ramification: Policies of the table do not hold for its partitions; theirs might be missing, and their names tell of tenants.
-- resolution: Revoke every privilege on partitions: they are used by way of their table.

select distinct on (f.object) f.*
  from (
    select 'error', r.root_name, r.relation_name, format('%s may use the partition directly: %s', p_role, h.privileges),
        format('revoke all on %s from public, %I', r.relation_name, p_role)
      from rowhouse.tenant_relations() r
      cross join lateral (
        select string_agg(v.privilege, ', ' order by v.privilege) as privileges
          from unnest(array['DELETE', 'INSERT', 'REFERENCES', 'SELECT', 'TRIGGER', 'TRUNCATE', 'UPDATE']) v (privilege)
          where has_table_privilege(p_role, r.relation, v.privilege)
            or v.privilege in ('INSERT', 'REFERENCES', 'SELECT', 'UPDATE') and has_any_column_privilege(p_role, r.relation, v.privilege)
      ) h
      where r.is_partition and h.privileges is not null
    union all
    select f.level, f."table", f.object, f.detail, f.mend
      from jsonb_to_recordset(v_protection) f (level text, kind text, "table" text, object text, detail text, mend text)
      where f.kind = 'privilege_on_partition'
  ) f (level, "table", object, detail, mend)
