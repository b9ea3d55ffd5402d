-- name: unprotected_table
-- level: error
-- summary: The role of requests reaches a table that is not protected.
-- ramification: Every tenant reads, or writes, all of its rows.
-- resolution: Protect it; when it belongs to no tenant, revoke the privileges, or name it as shared.

select 'error', r.name, r.name, format('no policies, and %s may %s', p_role, array_to_string(r.privileges, ', ')),
    format('select rowhouse.protect_table(%L), or, when it belongs to no tenant: revoke all on %s from public, %I', r.name, r.name, p_role)
  from rowhouse.reachable_relations(p_role) r
  where r.kind in ('r', 'p') and r.relation <> all (p_shared::oid[])
    and not exists (select from rowhouse.tenant_relations() t where t.relation = r.relation)
    and not exists (select from rowhouse.known_tables() k where k.name = r.name and k.read_by_app)
