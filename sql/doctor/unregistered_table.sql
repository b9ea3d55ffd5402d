-- name: unregistered_table
-- level: warning
-- summary: A table has a column named as tenant columns are, and nobody protected or exempted it.
-- ramification: Erasure is refused while it holds rows of the tenant; a privilege that somebody grants opens it to every tenant.
-- resolution: Protect it, or exempt it with the reason.

select 'warning', n.name, n.name, format('has a tenant column and no policies; %s has no privilege on it yet', p_role),
    format('select rowhouse.protect_table(%L), or: select rowhouse.exempt_table(%1$L, ''<why>'')', n.name)
  from pg_class c
  cross join lateral (select rowhouse.qualified_name(c.oid) as name) n
  where c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence <> 't'
    and c.relnamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) and rowhouse.holds_tenants(c.oid::regclass)
    and c.oid <> all (p_shared::oid[])
    and not exists (select from rowhouse.protected_tables p where p.relation = c.oid)
    and not exists (select from rowhouse.exempt_tables e where e.relation = c.oid)
    -- What a demotion detached for a moment.
    and not exists (select from rowhouse.tenants t where t.partition_schema::regnamespace = c.relnamespace)
    and not exists (select from rowhouse.known_tables() k where k.name = n.name)
    and not exists (select from rowhouse.reachable_relations(p_role) r where r.relation = c.oid)
    and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
