-- name: sequence_privilege
-- level: error
-- summary: The role of requests may read or set a sequence.
-- ramification: A tenant sees, or sets, what all tenants draw numbers from.
-- resolution: Grant usage only, or use identity columns or uuids.

select 'error', r.name, r.name, format('%s may %s: it sees, or sets, what all tenants draw numbers from', p_role, b.beyond),
    format('revoke %s on sequence %s from public, %I', b.beyond, r.name, p_role)
  from rowhouse.reachable_relations(p_role) r
  cross join lateral (select string_agg(v, ', ' order by v) as beyond from unnest(r.privileges) v where v <> 'usage') b
  where r.kind = 'S' and b.beyond is not null and r.relation <> all (p_shared::oid[])
