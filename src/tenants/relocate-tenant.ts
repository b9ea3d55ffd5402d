import { type Kysely, sql } from 'kysely'
import * as z from 'zod'
import { parseOptions } from '../context/context-options.ts'
import { createRowhouseError, RowhouseError } from '../errors.ts'
import type { RowsByTable } from './erasure-receipt.ts'

/** What promotion, or its opposite, moved: this call, where an earlier one was cut off. */
export interface MovedTenant {
  readonly tenantId: string
  readonly tables: RowsByTable
  /** Tables left as they were, with the reasons. */
  readonly skipped: Readonly<Record<string, string>>
}

/** How far a promotion or demotion has come. */
export interface RelocationProgress {
  readonly tenantId: string
  /** Partitions are prepared, transactions that began before are waited for, the rows are moved. */
  readonly step: 'preparing' | 'waiting' | 'moving'
  /** The table that was prepared, or whose rows were moved. */
  readonly table?: string | undefined
  /** Of that table, as many as a demotion has moved so far. */
  readonly rows?: number | undefined
}

export interface RelocationOptions {
  readonly onProgress?: ((progress: RelocationProgress) => void) | undefined
}

const relocationOptions: z.ZodType<RelocationOptions> = z.strictObject({
  onProgress: z
    .custom<(progress: RelocationProgress) => void>((value) => typeof value === 'function', 'is not a function')
    .optional(),
})

/** How long a demotion waits for transactions that began before it, in milliseconds. They would find no rows. */
const DEMOTION_WAITS_MS = 60_000

/** Of a step of a demotion that found something in the way. */
const STEP_ATTEMPTS = 5

/** In steps, each a transaction of its own, of which the last one moves the rows. */
export async function promoteTenant(
  db: Kysely<any>,
  tenantId: string,
  options: RelocationOptions,
): Promise<MovedTenant> {
  const { onProgress } = parseOptions(relocationOptions, options)
  for (;;) {
    const { rows } = await sql<{ relation: string | null }>`
      select rowhouse.prepare_promotion(${tenantId}) as relation`.execute(db)
    const table = rows[0]!.relation
    if (table === null) break
    onProgress?.({ tenantId, step: 'preparing', table })
  }
  return relocate(db, tenantId, async () => {
    onProgress?.({ tenantId, step: 'waiting' })
    await sql`select rowhouse.await_entries()`.execute(db)
    onProgress?.({ tenantId, step: 'moving' })
    const { rows } = await sql<{ result: MovedTenant }>`
      select rowhouse.promote_tenant(${tenantId}) as result`.execute(db)
    const { tables, skipped } = rows[0]!.result
    return { tenantId, tables, skipped }
  })
}

/** The opposite, in steps of which each moves a table, or a part of one. Goes on with one that was cut off. */
export async function demoteTenant(
  db: Kysely<any>,
  tenantId: string,
  options: RelocationOptions,
): Promise<MovedTenant> {
  const { onProgress } = parseOptions(relocationOptions, options)
  return relocate(db, tenantId, async () => {
    onProgress?.({ tenantId, step: 'waiting' })
    // Those of one that was cut off wait for this one to go on.
    const { rows: entries } = await sql<{ ended: boolean }>`
      select t.status = 'relocating' or rowhouse.await_entries(${DEMOTION_WAITS_MS}) as ended
        from rowhouse.tenants t where t.tenant_id = ${tenantId}`.execute(db)
    if (entries[0]?.ended === false) {
      throw createRowhouseError('tenant_busy', 'Transactions that began before the demotion did not end in a minute.')
    }
    await sql`select rowhouse.begin_demotion(${tenantId})`.execute(db)
    const tables: Record<string, number> = {}
    onProgress?.({ tenantId, step: 'moving' })
    for (;;) {
      const moved = await demoteNext(db, tenantId)
      if (moved === null) return { tenantId, tables, skipped: {} }
      for (const [table, rows] of Object.entries(moved)) {
        tables[table] = (tables[table] ?? 0) + rows
        onProgress?.({ tenantId, step: 'moving', table, rows: tables[table] })
      }
    }
  })
}

/** Tries again when somebody is in the way: until it is done, the tenant is closed. */
async function demoteNext(db: Kysely<any>, tenantId: string): Promise<Record<string, number> | null> {
  for (let attempt = 1; ; attempt++) {
    try {
      const { rows } = await sql<{ moved: Record<string, number> | null }>`
        select rowhouse.demote_next(${tenantId}) as moved`.execute(db)
      return rows[0]!.moved
    } catch (error) {
      if (!(error instanceof RowhouseError && error.code === 'tenant_busy') || attempt === STEP_ATTEMPTS) throw error
    }
  }
}

async function relocate(db: Kysely<any>, tenantId: string, move: () => Promise<MovedTenant>): Promise<MovedTenant> {
  // From here on transactions of the tenant wait when they begin, so that none is in the way later.
  await sql`select rowhouse.begin_relocation(${tenantId})`.execute(db)
  try {
    return await move()
  } catch (error) {
    // What the caller has to know is what it failed of.
    await sql`select rowhouse.end_relocation(${tenantId})`.execute(db).catch(() => {})
    throw error
  }
}
