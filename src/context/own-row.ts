import { createRowhouseError } from '../errors.ts'
import type { TenantExecutor } from './tenant-executor.ts'

/** Whose row it is, looked at once more: no row of another tenant leaves a module, whatever happened before it. */
export function assertOwnRow(
  executor: Pick<TenantExecutor, 'tenantId'>,
  row: { readonly tenant_id: string },
  table: string,
): void {
  if (row.tenant_id === executor.tenantId) return
  throw createRowhouseError('tenant_mismatch', 'The database answered with a row of another tenant.', {
    hint: `Check the policies of ${table}: select * from pg_policies.`,
  })
}
