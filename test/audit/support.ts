import type pg from 'pg'
import { afterAll, beforeAll } from 'vitest'
import { createRowhouse, type Rowhouse, type RowhouseOptions } from '../../src/index.ts'
import type { TestDatabase } from '../setup/database.ts'

export const ACME = 'acme'
export const GLOBEX = 'globex'

export interface BoundaryFixture {
  rowhouse: Rowhouse
  /** A connection of the application, for SQL of its own. */
  app: pg.Client
  operator: pg.Client
}

/** rowhouse on the database of the file, with the tenants acme and globex. */
export function useRowhouse(database: TestDatabase, options: Partial<RowhouseOptions> = {}): BoundaryFixture {
  const fixture = {} as BoundaryFixture
  beforeAll(async () => {
    fixture.app = await database.connect('app')
    fixture.operator = await database.connect('operator')
    fixture.rowhouse = openRowhouse(database, options)
    for (const tenantId of [ACME, GLOBEX]) await fixture.rowhouse.tenants.provision(tenantId)
  })
  afterAll(() => fixture.rowhouse?.close())
  return fixture
}

export function openRowhouse(database: TestDatabase, options: Partial<RowhouseOptions> = {}): Rowhouse {
  return createRowhouse({
    pool: database.pool('app', { max: 5 }),
    admin: { pool: database.pool('operator', { max: 3 }) },
    ...options,
  })
}

/** Runs statements in one transaction as this role and tenant. */
export async function inTransaction<T>(
  client: pg.ClientBase,
  { role, tenantId = '', rollback = false }: { role?: string; tenantId?: string; rollback?: boolean },
  work: () => Promise<T>,
): Promise<T> {
  await client.query(
    `begin; ${role === undefined ? '' : `set local role ${role};`} set local app.tenant_id = '${tenantId}'`,
  )
  try {
    const result = await work()
    await client.query(rollback ? 'rollback' : 'commit')
    return result
  } catch (error) {
    await client.query('rollback')
    throw error
  }
}
