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

/** Every relation outside the system catalogs and extensions on which the role has any privilege. */
export async function reachableRelations(client: pg.ClientBase, role = 'rowhouse_app'): Promise<ReachableRelation[]> {
  const { rows } = await client.query<ReachableRelation>(
    `select name, schema, kind::text, is_partition as "isPartition", privileges from rowhouse.reachable_relations($1)`,
    [role],
  )
  return rows
}

/** Tables of rowhouse that span tenants or outlive them: those that the application reads, or the others. */
export async function knownTables(client: pg.ClientBase, readByApp: boolean): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(
    'select name from rowhouse.known_tables() where read_by_app = $1',
    [readByApp],
  )
  return rows.map(({ name }) => name)
}
