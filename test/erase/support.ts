import type pg from 'pg'
import { expect } from 'vitest'
import type { ErasurePreview, ErasureReceipt, VerifiedErasure } from '../../src/index.ts'
import { asTenant, failure } from '../protect/support.ts'

/** Erases by SQL, in one transaction. The receipt without the tables of rowhouse itself, which keep an audit trail. */
export async function erase(client: pg.ClientBase, tenantId: string): Promise<ErasureReceipt> {
  const { rows } = await client.query('select rowhouse.erase_tenant($1) as receipt', [tenantId])
  return ofApplication(rows[0].receipt)
}

/** A dry run by SQL, without the tables of rowhouse itself. */
export async function preview(client: pg.ClientBase, tenantId: string): Promise<ErasurePreview> {
  const { rows } = await client.query('select rowhouse.erase_tenant($1, true) as preview', [tenantId])
  return ofApplication(rows[0].preview)
}

function ofApplication<T extends { readonly tables: Readonly<Record<string, number>>; readonly rows: number }>(
  all: T,
): T {
  const tables = Object.fromEntries(Object.entries(all.tables).filter(([table]) => !table.startsWith('rowhouse.')))
  return { ...all, tables, rows: Object.values(tables).reduce((sum, rows) => sum + rows, 0) }
}

/** Receipts that don't hold. */
export async function brokenReceipts(client: pg.ClientBase): Promise<VerifiedErasure[]> {
  const { rows } = await client.query(
    `select erasure_number::int as "erasureNumber", tenant_id as "tenantId", intact
      from rowhouse.verify_erasures() where intact is not true`,
  )
  return rows
}

/** Rows of a tenant in a table, as text, in an order of their own. Works for erased tenants, too. */
export async function rowsOf(client: pg.ClientBase, table: string, tenantId: string): Promise<string[]> {
  const { rows } = await asTenant(client, tenantId, (c) =>
    c.query<{ row: string }>(`select t::text as row from ${table} t order by 1`),
  )
  return rows.map(({ row }) => row)
}

/** Rows of a tenant in each of these tables. */
export async function rowsIn(client: pg.ClientBase, tables: readonly string[], tenantId: string) {
  const rows: Record<string, string[]> = {}
  for (const table of tables) rows[table] = await rowsOf(client, table, tenantId)
  return rows
}

/** The status in the registry; the client is an operator. */
export async function statusOf(client: pg.ClientBase, tenantId: string): Promise<string | undefined> {
  const { rows } = await client.query('select status from rowhouse.tenants where tenant_id = $1', [tenantId])
  return rows[0]?.status
}

/** The erasure fails with this SQLSTATE, and every row of these tables is as it was. */
export async function expectRefused(
  client: pg.ClientBase,
  tenantId: string,
  tables: readonly string[],
  expected: { readonly code: string; readonly message?: RegExp },
): Promise<Error & { hint?: string; detail?: string }> {
  const before = await rowsIn(client, tables, tenantId)
  const error = await failure(erase(client, tenantId))
  expect(error.code, error.message).toBe(expected.code)
  if (expected.message !== undefined) expect(error.message).toMatch(expected.message)
  expect(await rowsIn(client, tables, tenantId)).toEqual(before)
  expect((await client.query('select from rowhouse.erasures where tenant_id = $1', [tenantId])).rowCount).toBe(0)
  return error
}
