import type pg from 'pg'

/**
 * Every privilege that PUBLIC, the application, operators and full-text search have on an object of rowhouse, as text that people read:
 * one line for each object. An object without a line gives none of them anything. Read from the catalogs.
 */
export async function privilegeManifest(client: pg.ClientBase): Promise<string> {
  const { rows } = await client.query<{ object: string; grantee: string; privileges: string }>(PRIVILEGES)
  const lines: string[] = []
  for (const [object, grants] of Map.groupBy(rows, (row) => row.object)) {
    const [section] = object.split(' ', 1)
    if (lines.every((line) => line !== section)) lines.push('', section!)
    const granted = grants.map(({ grantee, privileges }) => `${grantee}: ${privileges}`).join('; ')
    lines.push(`  ${object.slice(section!.length + 1)}  ${granted}`)
  }
  return `${HEAD}${lines.join('\n')}\n`
}

const HEAD = `Every privilege of PUBLIC, rowhouse_app, rowhouse_admin and rowhouse_search on the objects of rowhouse.
Compared with the catalogs by privileges.test.ts. After a change that was meant, write it again:
npx vitest run test/isolation/privileges.test.ts -u
`

const PRIVILEGES = `
  with ours as (select oid, nspname, nspacl, nspowner from pg_namespace where nspname in ('rowhouse', 'rowhouse_partitions')),
  objects as (
    select 1 as place, 'database' as object, d.datdba as owner, coalesce(d.datacl, acldefault('d', d.datdba)) as acl
      from pg_database d where d.datname = current_database()
    union all
    select 2, 'schema ' || n.nspname, n.nspowner, coalesce(n.nspacl, acldefault('n', n.nspowner)) from ours n
    union all
    select 3, 'type ' || n.nspname || '.' || t.typname, t.typowner, coalesce(t.typacl, acldefault('T', t.typowner))
      from pg_type t join ours n on n.oid = t.typnamespace where t.typtype in ('d', 'e', 'r')
    union all
    select case c.relkind when 'S' then 5 else 4 end,
        case c.relkind when 'S' then 'sequence ' when 'v' then 'view ' else 'table ' end || n.nspname || '.' || c.relname,
        c.relowner, coalesce(c.relacl, acldefault(case c.relkind when 'S' then 's' else 'r' end::"char", c.relowner))
      from pg_class c join ours n on n.oid = c.relnamespace where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
    union all
    -- Its arguments only where a name has several: a further argument changes no privilege.
    select 6, 'function ' || n.nspname || '.' || p.proname || case when exists (
            select from pg_proc o where o.pronamespace = p.pronamespace and o.proname = p.proname and o.oid <> p.oid)
          then '(' || pg_get_function_identity_arguments(p.oid) || ')' else '' end,
        p.proowner, coalesce(p.proacl, acldefault('f', p.proowner))
      from pg_proc p join ours n on n.oid = p.pronamespace
    union all
    select 7, 'later ' || case d.defaclobjtype when 'r' then 'tables' when 'f' then 'functions' when 'S' then 'sequences' when 'n' then 'schemas' else 'types' end
        || coalesce(' in ' || n.nspname, ''), d.defaclrole, d.defaclacl
      from pg_default_acl d left join ours n on n.oid = d.defaclnamespace
      where d.defaclrole = 'rowhouse_owner'::regrole or n.oid is not null
    union all
    -- Functions are everybody's where nobody said otherwise.
    select 7, 'later functions', 'rowhouse_owner'::regrole, acldefault('f', 'rowhouse_owner'::regrole)
      where not exists (select from pg_default_acl d
        where d.defaclrole = 'rowhouse_owner'::regrole and d.defaclnamespace = 0 and d.defaclobjtype = 'f')
  ),
  granted as (
    select o.place, o.object, a.grantee, lower(a.privilege_type) || case when a.is_grantable then ' with grant option' else '' end as privilege
      from objects o cross join aclexplode(o.acl) a
      -- Who may connect, and make temporary tables, was decided before rowhouse was there.
      where a.grantee <> o.owner and (o.place > 1 or a.privilege_type = 'CREATE')
    union all
    select 4, 'table ' || n.nspname || '.' || c.relname, a.grantee,
        format('%s (%s)', lower(a.privilege_type), string_agg(quote_ident(t.attname), ', ' order by t.attnum))
      from pg_class c
      join ours n on n.oid = c.relnamespace
      join pg_attribute t on t.attrelid = c.oid and not t.attisdropped
      cross join aclexplode(t.attacl) a
      where a.grantee <> c.relowner
      group by n.nspname, c.relname, a.grantee, a.privilege_type
  )
  select g.object, case g.grantee when 0 then 'PUBLIC' else pg_get_userbyid(g.grantee)::text end as grantee,
      string_agg(g.privilege, ', ' order by g.privilege) as privileges
    from granted g
    -- The rights that the migrating login has on its own database are its own business.
    where g.grantee = 0 or g.grantee in ('rowhouse_app'::regrole, 'rowhouse_admin'::regrole, 'rowhouse_search'::regrole)
    group by g.place, g.object, g.grantee
    order by g.place, g.object collate "C", 2`
