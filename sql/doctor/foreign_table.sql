-- name: foreign_table
-- level: error
-- summary: The role of requests reaches a foreign table.
-- ramification: Row-level security does not exist for foreign tables: every tenant reads all of it.
-- resolution: Revoke its privileges, or name it as shared.

select 'error', r.name, r.name, format('row-level security does not exist for foreign tables, and %s may %s', p_role, array_to_string(r.privileges, ', ')),
    format('revoke all on %s from public, %I', r.name, p_role)
  from rowhouse.reachable_relations(p_role) r
  where r.kind = 'f' and r.relation <> all (p_shared::oid[])
    and not exists (select from rowhouse.tenant_relations() t where t.relation = r.relation)
