-- name: tenant_without_default
-- level: error
-- summary: The tenant of a new row is not that of the transaction by itself.
-- ramification: Inserts that do not name the tenant fail, or are refused because they name another one.
-- resolution: Protect the table again: select rowhouse.protect_table('schema.table').

select 'error', r.root_name, r.relation_name, 'the tenant of a new row is not that of the transaction by itself',
    format('select rowhouse.protect_table(%L, %L)', r.root_name, r.tenant_column)
  from rowhouse.tenant_relations() r
  where not r.is_partition and not exists (
    select from pg_attribute a join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
      where a.attrelid = r.relation and a.attname = r.tenant_column
        and pg_get_expr(d.adbin, d.adrelid) ~ '^\(?rowhouse\.require_tenant\(\)\)?(::[a-z ]+)?$')
