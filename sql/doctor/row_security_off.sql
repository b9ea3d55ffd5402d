-- name: row_security_off
-- level: error
-- summary: Row-level security is not enabled on a tenant table, or on a partition of one.
-- ramification: Every tenant reads and writes the rows of every other one.
-- resolution: Protect the table again: select rowhouse.protect_table('schema.table').

select 'error', r.root_name, r.relation_name, 'row-level security is not enabled',
    format('select rowhouse.protect_table(%L, %L)', r.root_name, r.tenant_column)
  from rowhouse.tenant_relations() r where not r.enabled
