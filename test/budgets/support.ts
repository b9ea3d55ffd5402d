import { sql } from 'kysely'
import type pg from 'pg'
import type { Rowhouse } from '../../src/index.ts'
import { RowhouseError } from '../../src/index.ts'
import type { TestDatabase } from '../setup/database.ts'

/** Prices that are easy to reckon with: a million tokens of input cost 2, of output 10, an image 0.05. */
export async function setPrices(rowhouse: Rowhouse): Promise<void> {
  await rowhouse.prices.set('large', { inputTokens: 2, outputTokens: 10, images: '0.05' })
}

/** Gives a tenant exactly these limits; quotas of tiers that are not among them are lifted. */
export async function setLimits(
  rowhouse: Rowhouse,
  tenant: string,
  limits: Readonly<Record<string, number>>,
): Promise<void> {
  for (const name of ['concurrency', 'money_per_month', 'tokens_per_day', 'tokens_per_month']) {
    await rowhouse.quotas.set(tenant, name, { limit: limits[name] ?? null })
  }
  for (const [name, limit] of Object.entries(limits)) await rowhouse.quotas.set(tenant, name, { limit })
}

/** What does not balance in the books of the tenant; nothing when all does. */
export async function differences(rowhouse: Rowhouse, tenant: string): Promise<unknown[]> {
  return rowhouse.withTenant(
    tenant,
    async (db) => (await sql`select * from rowhouse.budget_differences()`.execute(db)).rows,
  )
}

/** A quota of the tenant as `[used, reserved, free]`. */
export async function standing(rowhouse: Rowhouse, tenant: string, name: string): Promise<number[]> {
  const quota = (await rowhouse.tenant(tenant).budget.checkQuotas()).find((status) => status.name === name)
  if (quota === undefined) throw new Error(`no quota ${name}`)
  return [quota.used, quota.reserved, quota.free ?? Number.POSITIVE_INFINITY]
}

/** The error of a call that must fail with one of ours. */
export async function errorOf<E extends RowhouseError = RowhouseError>(call: Promise<unknown>): Promise<E> {
  const error = await call.then(
    (value) => new Error(`resolved to ${JSON.stringify(value)}`),
    (reason: unknown) => reason as Error,
  )
  if (error instanceof RowhouseError) return error as E
  throw error
}

/** Makes the lease of a call run out now. */
export async function expire(database: TestDatabase, tenant: string, requestId: string): Promise<void> {
  await asRowhouseOwner(
    database,
    tenant,
    `update rowhouse.reservations set expires_at = clock_timestamp() - interval '1 ms' where tenant_id = $1 and request_id = $2`,
    [tenant, requestId],
  )
}

/**
 * Runs SQL on the rows of a tenant with all rights on them, as nothing but a mistake would. Without values it may be
 * several statements; the rows are those of a single one.
 */
export async function asRowhouseOwner(
  database: TestDatabase,
  tenant: string,
  statement: string,
  values: readonly unknown[] = [],
): Promise<pg.QueryResultRow[]> {
  const owner = await database.connect('owner')
  try {
    await owner.query(`begin; set local role rowhouse_owner; set local app.tenant_id = '${tenant}'`)
    const { rows } = await owner.query(statement, [...values])
    await owner.query('commit')
    return rows
  } finally {
    await owner.end()
  }
}
