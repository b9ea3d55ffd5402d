-- name: tenant_not_indexed
-- level: warning
-- summary: No index of a tenant table begins with the tenant.
-- ramification: Every statement of every tenant reads the rows of all tenants and throws most of them away.
-- resolution: Protect the table again, or create the index yourself, concurrently where the table is large.

select 'warning', r.root_name, r.relation_name, 'no index begins with the tenant, so each statement reads the rows of all tenants', i.statement
  from rowhouse.tenant_relations() r
  cross join lateral (
    select string_agg(p.statement, '; ') as statement from rowhouse.plan_index(r.relation::regclass, r.tenant_column) p
  ) i
  where i.statement is not null and r.kind in ('r', 'p') and not r.is_partition
