import type pg from 'pg'
import { afterAll } from 'vitest'
import { createRowhouse, type RateLimitWindow, type Rowhouse, type RowhouseOptions } from '../../src/index.ts'
import type { TestDatabase } from '../setup/database.ts'

export const HOUR_MS = 3_600_000

/** Long enough that nothing leaves it, and no allowance of gcra comes back, while a test runs. */
export const hourly = (
  limit: number,
  algorithm: RateLimitWindow['algorithm'] = 'sliding_window',
): RateLimitWindow[] => [{ limit, windowMs: limit > 1000 ? HOUR_MS : 100 * HOUR_MS, algorithm }]

export async function provision(database: TestDatabase, ...tenants: string[]): Promise<void> {
  const operator = await database.connect('operator')
  await operator.query('set role rowhouse_admin')
  for (const tenant of tenants) await operator.query('select rowhouse.provision_tenant($1)', [tenant])
}

/** Opens rowhouse on the database, as the application with operators of their own; closed after the file. */
export function rowhouseFor(database: TestDatabase): (options?: Partial<RowhouseOptions>) => Rowhouse {
  const opened: Rowhouse[] = []
  afterAll(async () => {
    for (const rowhouse of opened) await rowhouse.close()
  })
  return (options = {}) => {
    const rowhouse = createRowhouse({
      connectionString: database.url('app'),
      admin: { connectionString: database.url('operator') },
      ...options,
    })
    opened.push(rowhouse)
    return rowhouse
  }
}

/** Runs SQL as the application in a tenant, as any other language would. */
export async function inTenant<Row extends pg.QueryResultRow>(
  client: pg.Client,
  tenant: string,
  sql: string,
  values: unknown[] = [],
): Promise<Row[]> {
  await client.query(`begin; set local role rowhouse_app; set local app.tenant_id = '${tenant}'`)
  try {
    const { rows } = await client.query<Row>(sql, values)
    await client.query('commit')
    return rows
  } catch (error) {
    await client.query('rollback')
    throw error
  }
}

export function count<T>(values: readonly T[], wanted: (value: T) => boolean = Boolean): number {
  return values.filter(wanted).length
}
