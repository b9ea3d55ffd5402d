import { type Kysely, type RawBuilder, sql } from 'kysely'

/**
 * Calls a function that sweeps up to `batchSize` rows, a transaction each, until one finds fewer; returns how many rows
 * in all.
 */
export async function sweepInBatches(db: Kysely<any>, batchSize: number, call: RawBuilder<unknown>): Promise<number> {
  for (let total = 0; ; ) {
    const { rows } = await sql<{ swept: number }>`select ${call} as swept`.execute(db)
    const { swept } = rows[0]!
    total += swept
    if (swept < batchSize) return total
  }
}
