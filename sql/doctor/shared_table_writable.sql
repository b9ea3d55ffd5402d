-- name: shared_table_writable
-- level: error
-- summary: The role of requests may write a table that every tenant reads.
-- ramification: One tenant changes what all others read.
-- resolution: Revoke everything but select.

select 'error', r.name, r.name, format('every tenant reads it, and %s may %s', p_role, b.beyond),
    format('revoke %s on %s from public, %I', b.beyond, r.name, p_role)
  from rowhouse.reachable_relations(p_role) r
  cross join lateral (
    select string_agg(v, ', ' order by v) as beyond from unnest(r.privileges) v where v <> 'select' and not (r.kind = 'S' and v = 'usage')
  ) b
  where b.beyond is not null
    and (r.relation = any (p_shared::oid[]) or exists (select from rowhouse.known_tables() k where k.name = r.name and k.read_by_app))
    and not exists (select from rowhouse.tenant_relations() t where t.relation = r.relation)
