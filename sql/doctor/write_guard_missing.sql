-- name: write_guard_missing
-- level: error
-- summary: The trigger that stands in front of writes is missing or disabled.
-- ramification: Suspended tenants go on writing, and rows can be written while or after their tenant is erased.
-- resolution: Protect the table again: select rowhouse.protect_table('schema.table').

select 'error', r.root_name, r.relation_name, 'rows could be written while or after their tenant is erased',
    format('select rowhouse.protect_table(%L, %L)', r.root_name, r.tenant_column)
  from rowhouse.tenant_relations() r
  where not r.is_partition and not rowhouse.has_write_guard(r.relation::regclass)
    and not rowhouse.is_written_by_functions_only(r.relation::regclass)
