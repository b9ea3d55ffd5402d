import pg from 'pg'

export interface InTenantOptions {
  /** The role of the transaction. Default `rowhouse_app`. */
  readonly role?: string
  /** Whether the transaction is committed. Default: rolled back. */
  readonly commit?: boolean
}

/**
 * A transaction of a tenant by SQL alone, as a client in any language would write it. `null`: of no tenant.
 * It names the role itself, so it means the same where logins aren't real.
 */
export async function inTenant<T>(
  client: pg.ClientBase,
  tenantId: string | null,
  work: () => Promise<T>,
  { role = 'rowhouse_app', commit = false }: InTenantOptions = {},
): Promise<T> {
  await client.query('begin')
  try {
    await client.query(`set local role ${pg.escapeIdentifier(role)}`)
    if (tenantId !== null) await client.query(`set local app.tenant_id = ${pg.escapeLiteral(tenantId)}`)
    const result = await work()
    await client.query(commit ? 'commit' : 'rollback')
    return result
  } catch (error) {
    await client.query('rollback')
    throw error
  }
}

/** Rows of one statement in a transaction of a tenant. */
export async function rowsInTenant<Row extends pg.QueryResultRow = any>(
  client: pg.ClientBase,
  tenantId: string | null,
  sql: string,
  { values, ...options }: InTenantOptions & { readonly values?: unknown[] } = {},
): Promise<Row[]> {
  return inTenant(client, tenantId, async () => (await client.query<Row>(sql, values)).rows, options)
}

/** Runs `work` with a savepoint that is rolled back: what it changed, and an error, leave no trace. */
export async function undone<T>(client: pg.ClientBase, work: () => Promise<T>): Promise<T> {
  await client.query('savepoint undone')
  try {
    return await work()
  } finally {
    await client.query('rollback to savepoint undone; release savepoint undone')
  }
}
