-- name: policy_differs
-- level: error
-- summary: A policy of rowhouse is missing on a tenant table or a partition, or was changed.
-- ramification: A looser condition shows rows of other tenants; a missing policy leaves only the other one, or none.
-- resolution: Protect the table again: select rowhouse.protect_table('schema.table').

select 'error', r.root_name, r.relation_name, string_agg(format('the policy %I is missing, or not as rowhouse writes it', e.name), '; ' order by e.name),
    format('select rowhouse.protect_table(%L, %L)', r.root_name, r.tenant_column)
  from rowhouse.tenant_relations() r
  cross join (values ('rowhouse_tenant'::name, true), ('rowhouse_isolation', false)) e (name, permissive)
  where not rowhouse.has_tenant_policy(r.relation::regclass, e.name, e.permissive, r.tenant_column, r.column_type)
  group by r.root_name, r.relation_name, r.tenant_column
