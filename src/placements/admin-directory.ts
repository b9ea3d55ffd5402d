import type { AdminExecutor } from '../context/admin-executor.ts'
import { HOME } from '../context/placements.ts'
import { createRowhouseError } from '../errors.ts'

/** The row of a tenant in the registry of one database. */
export interface RegistryRow {
  readonly status: string
  /** Where it moves or moved to. */
  readonly placement: string | null
  /** While it moves, and until its rows are erased there: what it was before. */
  readonly statusBefore: string | null
}

/** A database on the way to a tenant. */
export interface Hop {
  readonly name: string
  readonly admin: AdminExecutor
  /** Undefined: the tenant is not in this registry. */
  readonly row: RegistryRow | undefined
}

/** The databases that tenants may be in, for operators. */
export class AdminDirectory {
  readonly #all: ReadonlyMap<string, AdminExecutor>

  /** `all` has one called home. */
  constructor(all: ReadonlyMap<string, AdminExecutor>) {
    this.#all = all
  }

  /** Whether there is more than one. */
  get isDivided(): boolean {
    return this.#all.size > 1
  }

  /** All databases, home first. */
  get all(): readonly (readonly [name: string, admin: AdminExecutor])[] {
    return [...this.#all]
  }

  /** The database of this name. */
  get(name: string): AdminExecutor {
    const admin = this.#all.get(name)
    if (admin !== undefined) return admin
    throw createRowhouseError('invalid_argument', `createRowhouse was given no placement "${name}".`, {
      hint: `Placements: ${[...this.#all.keys()].join(', ')}.`,
    })
  }

  /**
   * The databases from home to where the tenant is, the last one. It says itself that the tenant moved when that is to a
   * database that is not known here.
   */
  async trace(tenantId: string): Promise<Hop[]> {
    const hops: Hop[] = []
    for (let name = HOME; ; ) {
      const admin = this.get(name)
      const row = await readRow(admin, tenantId)
      hops.push({ name, admin, row })
      // What a move brings back is in the other database until it is open here.
      const isElsewhere = row?.status === 'moved' || (row?.status === 'importing' && row.statusBefore === 'moved')
      const next = isElsewhere ? row.placement : null
      if (next === null || !this.#all.has(next) || hops.length > this.#all.size) return hops
      name = next
    }
  }

  /** What every database says of the tenant. */
  async everywhere(tenantId: string): Promise<Hop[]> {
    return Promise.all(
      [...this.#all].map(async ([name, admin]) => ({ name, admin, row: await readRow(admin, tenantId) })),
    )
  }

  /** Where the tenant is. */
  async locate(tenantId: string): Promise<Hop> {
    return (await this.trace(tenantId)).at(-1)!
  }
}

export async function readRow({ db }: AdminExecutor, tenantId: string): Promise<RegistryRow | undefined> {
  const row = await db
    .withSchema('rowhouse')
    .selectFrom('tenants')
    .select(['status', 'placement', 'status_before'])
    .where('tenant_id', '=', tenantId)
    .executeTakeFirst()
  return row && { status: row.status, placement: row.placement, statusBefore: row.status_before }
}
