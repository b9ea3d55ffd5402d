import type pg from 'pg'

/** What is needed to write statements for a table that is known from the catalogs only. */
export interface TableShape {
  /** With its schema, quoted. */
  readonly name: string
  /** Columns that can be inserted, quoted. */
  readonly columns: readonly string[]
  /** The columns of the primary key without the tenant column, quoted. */
  readonly key: readonly string[]
  /** A column that is neither part of the key nor the tenant column; the first of the key where there is none. */
  readonly plainColumn: string
  readonly tenantColumn: string
  readonly partitioned: boolean
}

export async function describeTable(client: pg.ClientBase, table: string): Promise<TableShape> {
  const { rows } = await client.query<{ column: string; inKey: boolean; isTenant: boolean; partitioned: boolean }>(
    `select quote_ident(a.attname) as column, coalesce(a.attnum = any (i.indkey::smallint[]), false) as "inKey",
        a.attname = p.tenant_column as "isTenant", c.relkind = 'p' as partitioned
      from rowhouse.protected_tables p
      join pg_class c on c.oid = p.relation
      join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
      left join pg_index i on i.indrelid = c.oid and i.indisprimary
      where p.relation = $1::regclass
      order by a.attnum`,
    [table],
  )
  if (rows.length === 0) throw new Error(`${table} is reachable and not registered`)
  const key = rows.filter(({ inKey, isTenant }) => inKey && !isTenant).map(({ column }) => column)
  const plain = rows.find(({ inKey, isTenant }) => !inKey && !isTenant)
  return {
    name: table,
    columns: rows.map(({ column }) => column),
    key,
    plainColumn: plain?.column ?? key[0]!,
    tenantColumn: rows.find(({ isTenant }) => isTenant)!.column,
    partitioned: rows[0]!.partitioned,
  }
}
