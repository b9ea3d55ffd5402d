-- name: tenant_nullable
-- level: error
-- summary: Rows of a tenant table need not have a tenant.
-- ramification: A row without a tenant belongs to nobody: nobody sees, exports or erases it.
-- resolution: Protect the table again: select rowhouse.protect_table('schema.table').

select 'error', r.root_name, r.relation_name, 'rows need not have a tenant',
    format('select rowhouse.protect_table(%L, %L)', r.root_name, r.tenant_column)
  from rowhouse.tenant_relations() r
  join pg_attribute a on a.attrelid = r.relation and a.attname = r.tenant_column
  where not a.attnotnull
