import type { AdminExecutor } from '../context/admin-executor.ts'
import { HOME } from '../context/placements.ts'
import type { AdminDirectory } from '../placements/admin-directory.ts'
import { TENANT_COLUMNS, type Tenant, type TenantRow, type TenantStatus, toTenant } from './tenant.ts'

export interface TenantFilter {
  readonly status?: TenantStatus | undefined
  readonly tier?: string | undefined
  readonly after?: string | undefined
  readonly limit: number
}

export interface TenantPage {
  readonly tenants: Tenant[]
  /** The last one that was looked at; undefined: there are no more. */
  readonly next: string | undefined
}

export function selectTenants({ db }: Pick<AdminExecutor, 'db'>) {
  return db
    .withSchema('rowhouse')
    .selectFrom('tenants')
    .select([...TENANT_COLUMNS])
    .$castTo<TenantRow>()
}

/** A tenant of the registry at home, as the database where it is knows it. */
export async function findTenant(directory: AdminDirectory, tenantId: string): Promise<Tenant | undefined> {
  const row = await selectTenants(directory.get(HOME)).where('tenant_id', '=', tenantId).executeTakeFirst()
  return row && resolveTenant(directory, row)
}

/** A page of the registry at home. Where tenants may have moved it may hold fewer than it looked at. */
export async function readTenants(directory: AdminDirectory, filter: TenantFilter): Promise<TenantPage> {
  const { status, tier, after, limit } = filter
  let query = selectTenants(directory.get(HOME)).orderBy('tenant_id').limit(limit)
  const isDivided = directory.isDivided
  // What holds for a tenant that moved is in the registry where it is.
  if (status !== undefined) query = query.where('status', 'in', isDivided ? [status, 'moved'] : [status])
  if (tier !== undefined) {
    query = query.where((eb) =>
      eb.or([eb('tier', '=', tier), ...(isDivided ? [eb('status', '=', 'moved' as const)] : [])]),
    )
  }
  if (after !== undefined) query = query.where('tenant_id', '>', after)
  const rows = await query.execute()
  const tenants = await Promise.all(rows.map((row) => resolveTenant(directory, row)))
  return {
    tenants: tenants.filter(
      (tenant) => (status === undefined || tenant.status === status) && (tier === undefined || tenant.tier === tier),
    ),
    next: rows.length < limit ? undefined : rows.at(-1)!.tenant_id,
  }
}

async function resolveTenant(directory: AdminDirectory, row: TenantRow): Promise<Tenant> {
  if (row.status !== 'moved' || !directory.isDivided) return toTenant(row)
  const { name, admin } = await directory.locate(row.tenant_id)
  const there = await selectTenants(admin).where('tenant_id', '=', row.tenant_id).executeTakeFirst()
  return there === undefined || there.status === 'moved'
    ? toTenant(row)
    : { ...toTenant(there), placement: there.placement ?? name }
}
