import { type Kysely, sql } from 'kysely'
import * as z from 'zod'
import { parseOptions } from '../context/context-options.ts'
import type { RowsByTable } from './erasure-receipt.ts'

/** What promotion, or its opposite, moved. */
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
  /** The table that was prepared. */
  readonly table?: string | undefined
}

export interface RelocationOptions {
  readonly onProgress?: ((progress: RelocationProgress) => void) | undefined
}

const relocationOptions: z.ZodType<RelocationOptions> = z.strictObject({
  onProgress: z
    .custom<(progress: RelocationProgress) => void>((value) => typeof value === 'function', 'is not a function')
    .optional(),
})

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
  return relocate(db, tenantId, sql`select rowhouse.promote_tenant(${tenantId}) as result`, onProgress)
}

/** The opposite. */
export async function demoteTenant(
  db: Kysely<any>,
  tenantId: string,
  options: RelocationOptions,
): Promise<MovedTenant> {
  const { onProgress } = parseOptions(relocationOptions, options)
  return relocate(db, tenantId, sql`select rowhouse.demote_tenant(${tenantId}) as result`, onProgress)
}

async function relocate(
  db: Kysely<any>,
  tenantId: string,
  statement: ReturnType<typeof sql>,
  onProgress: RelocationOptions['onProgress'],
): Promise<MovedTenant> {
  // From here on transactions of the tenant wait when they begin, so that none is in the way later.
  await sql`select rowhouse.begin_relocation(${tenantId})`.execute(db)
  try {
    onProgress?.({ tenantId, step: 'waiting' })
    await sql`select rowhouse.await_entries()`.execute(db)
    onProgress?.({ tenantId, step: 'moving' })
    const { rows } = await statement.execute(db)
    const { result } = rows[0] as {
      result: { tenantId: string; tables: RowsByTable; skipped?: Record<string, string> }
    }
    return { tenantId: result.tenantId, tables: result.tables, skipped: result.skipped ?? {} }
  } catch (error) {
    // What the caller has to know is what it failed of.
    await sql`select rowhouse.end_relocation(${tenantId})`.execute(db).catch(() => {})
    throw error
  }
}
