-- name: owning_role
-- level: error
-- summary: The role of requests may act as the owner of a tenant table.
-- ramification: An owner takes the protection away whenever it likes.
-- resolution: Take the membership away, or give the table to a role of its own.

select 'error', rowhouse.qualified_name(p.relation), o.rolname, format('%s may act as the owner of the table, who can take its protection away', p_role),
    case when o.rolname = p_role then format('alter table %s owner to <a role of its own>', p.relation)
      else format('revoke %I from %I', o.rolname, p_role) end
  from (
    select distinct on (c.relowner) p.relation, c.relowner from rowhouse.protected_tables p join pg_class c on c.oid = p.relation
      order by c.relowner, rowhouse.qualified_name(c.oid)
  ) p
  join pg_roles o on o.oid = p.relowner
  where not (select s.rolsuper from pg_roles s where s.rolname = p_role) and pg_has_role(p_role, o.oid, 'member')
