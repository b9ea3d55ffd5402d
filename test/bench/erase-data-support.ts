import type pg from 'pg'

/** Ten tables, each referring to one before it by a foreign key with the tenant. */
export const TABLES = [
  'customers',
  'projects',
  'orders',
  'lines',
  'payments',
  'messages',
  'attachments',
  'visits',
  'events',
  'labels',
] as const

/** Which table each one refers to; the last one to itself. */
const REFERENCES = [undefined, 0, 0, 2, 2, 1, 5, 0, 7, 9] as const

export interface TenantSize {
  readonly tenantId: string
  /** In all tables together. */
  readonly rows: number
}

/** Creates the tables in a schema, with the same rows for whoever calls it: filled first, then constrained. */
export async function createTables(
  client: pg.ClientBase,
  schema: string,
  tenants: readonly TenantSize[],
): Promise<void> {
  await client.query(`create schema ${schema}`)
  for (const [index, table] of TABLES.entries()) {
    const name = `${schema}.${table}`
    await client.query(`create table ${name} (tenant_id text not null, id integer not null, parent integer, note text,
      created_at timestamptz not null default now(), primary key (tenant_id, id))`)
    for (const { tenantId, rows } of tenants) {
      await client.query(
        `insert into ${name} (tenant_id, id, parent, note) select $1, i, 1 + i * 7 % $2::integer, repeat('note ', 10) || i
          from generate_series(1, $2::integer) i`,
        [tenantId, rows / TABLES.length],
      )
    }
    if (REFERENCES[index] === undefined) continue
    await client.query(`create index on ${name} (tenant_id, parent)`)
    await client.query(
      `alter table ${name} add foreign key (tenant_id, parent) references ${schema}.${TABLES[REFERENCES[index]]}`,
    )
  }
}

/** What everybody writes by hand: one delete for each table, in an order that the foreign keys allow. */
export async function deleteByHand(client: pg.ClientBase, schema: string, tenantId: string): Promise<number> {
  let rows = 0
  await client.query('begin')
  for (const table of TABLES.toReversed()) {
    rows += (await client.query(`delete from ${schema}.${table} where tenant_id = $1`, [tenantId])).rowCount ?? 0
  }
  await client.query('commit')
  return rows
}
