/**
 * Whether a tenant may work. `erasing` and `erased` are final; `relocating` ends with a demotion, `moving` and `importing`
 * with a move; `moved` says that the tenant is in another database.
 */
export type TenantStatus =
  | 'active'
  | 'suspended'
  | 'inactive'
  | 'relocating'
  | 'importing'
  | 'moving'
  | 'moved'
  | 'erasing'
  | 'erased'

/** A tenant, as the registry knows it. */
export interface Tenant {
  readonly id: string
  /** Name for people. */
  readonly name: string
  readonly status: TenantStatus
  /** Why it has this status, as the operator said. */
  readonly statusReason: string | null
  /** Price tier; chooses defaults such as limits. */
  readonly tier: string
  readonly settings: Readonly<Record<string, unknown>>
  /** Whether it has partitions of its own. */
  readonly promoted: boolean
  /** The database where it is, or that it moves to while `moving`, as in `createRowhouse`'s `placements`; null: home. */
  readonly placement: string | null
  readonly createdAt: Date
  readonly updatedAt: Date
  readonly erasedAt: Date | null
}

/** The columns of the registry, as Kysely selects them. */
export interface TenantRow {
  tenant_id: string
  name: string
  status: TenantStatus
  status_reason: string | null
  tier: string
  settings: Record<string, unknown>
  partition_schema: string | null
  placement: string | null
  created_at: Date
  updated_at: Date
  erased_at: Date | null
}

export const TENANT_COLUMNS = [
  'tenant_id',
  'name',
  'status',
  'status_reason',
  'tier',
  'settings',
  'partition_schema',
  'placement',
  'created_at',
  'updated_at',
  'erased_at',
] as const satisfies (keyof TenantRow)[]

export function toTenant(row: TenantRow): Tenant {
  return {
    id: row.tenant_id,
    name: row.name,
    status: row.status,
    statusReason: row.status_reason,
    tier: row.tier,
    settings: row.settings,
    promoted: row.partition_schema !== null,
    placement: row.placement,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
    erasedAt: row.erased_at,
  }
}
