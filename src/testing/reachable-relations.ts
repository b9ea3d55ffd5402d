import type pg from 'pg'

/** A relation that a role can do something with. */
export interface ReachableRelation {
  /** With its schema, quoted where needed. */
  readonly name: string
  readonly schema: string
  /** As in pg_class: r table, p partitioned table, v view, m materialized view, f foreign table, S sequence. */
  readonly kind: string
  readonly isPartition: boolean
  /** Privileges on the whole or on a column, also by way of PUBLIC or of another role. */
  readonly privileges: readonly string[]
}

const TABLE_PRIVILEGES = ['select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger']
const COLUMN_PRIVILEGES = ['select', 'insert', 'update', 'references']

/**
 * Every relation outside the system catalogs on which `role` has any privilege and whose schema it may use, without
 * those that belong to an extension. Read from the catalogs alone: nobody keeps a list.
 */
export async function reachableRelations(client: pg.ClientBase, role = 'rowhouse_app'): Promise<ReachableRelation[]> {
  const { rows } = await client.query<ReachableRelation>(
    `select format('%I.%I', n.nspname, c.relname) as name, n.nspname as schema, c.relkind::text as kind,
        c.relispartition as "isPartition", p.privileges
      from pg_class c
      join pg_namespace n on n.oid = c.relnamespace
      cross join lateral (
        select array_agg(distinct held.privilege order by held.privilege) as privileges from (
          select t.privilege from unnest($2::text[]) t (privilege)
            where c.relkind <> 'S' and has_table_privilege($1, c.oid, t.privilege)
          union all
          select s.privilege from unnest(array['select', 'update', 'usage']) s (privilege)
            where c.relkind = 'S' and case when c.relkind = 'S' then has_sequence_privilege($1, c.oid, s.privilege) end
          union all
          select k.privilege from unnest($3::text[]) k (privilege)
            where c.relkind <> 'S' and has_any_column_privilege($1, c.oid, k.privilege)
        ) held
      ) p
      where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and p.privileges is not null
        and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast') and n.nspname not like 'pg\\_temp\\_%'
        and has_schema_privilege($1, n.oid, 'usage')
        and not exists (select from pg_depend d
          where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
      order by 1`,
    [role, TABLE_PRIVILEGES, COLUMN_PRIVILEGES],
  )
  return rows
}
