import { assertOwnRow } from '../context/own-row.ts'
import type { TenantExecutor } from '../context/tenant-executor.ts'

/** What every row says: whose it is. */
export interface KeyRow {
  readonly tenant_id: string
}

/** Records that the database answered with a row of another tenant. */
export type ReportMismatch = (collection: string) => void

/**
 * Looks once more whose rows they are: no row of another tenant leaves this module, whatever happened before it. A
 * mismatch is reported, in a transaction of its own, and raised.
 */
export function checkOwnRows<Row extends KeyRow>(
  { tenantId }: TenantExecutor,
  rows: readonly Row[],
  collection: string,
  report: ReportMismatch | undefined,
): readonly Row[] {
  for (const row of rows) {
    if (row.tenant_id === tenantId) continue
    report?.(collection)
    assertOwnRow({ tenantId }, row, `the tables of the collection "${collection}"`)
  }
  return rows
}
