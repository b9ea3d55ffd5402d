-- name: row_security_not_forced
-- level: error
-- summary: Row-level security does not hold for the owner of a tenant table, or of a partition of one.
-- ramification: Functions and views of the owner, and whoever may act as the owner, see the rows of all tenants.
-- resolution: Protect the table again: select rowhouse.protect_table('schema.table').

select 'error', r.root_name, r.relation_name, 'row-level security does not hold for the owner',
    format('select rowhouse.protect_table(%L, %L)', r.root_name, r.tenant_column)
  from rowhouse.tenant_relations() r where not r.forced
