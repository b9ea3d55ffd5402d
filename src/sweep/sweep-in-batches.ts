import { type Kysely, type RawBuilder, sql } from 'kysely'

/**
 * Batch after batch, a transaction each, until one finds nothing; returns how many rows in all. Not until one is smaller
 * than asked for: two processes may each have left out what the other one held.
 */
export async function sweepUntilNothing(sweepBatch: () => Promise<number>): Promise<number> {
  for (let total = 0; ; ) {
    const removed = await sweepBatch()
    if (removed === 0) return total
    total += removed
  }
}

/** Calls a function that sweeps a batch until nothing is left. */
export function sweepInBatches(db: Kysely<any>, call: RawBuilder<unknown>): Promise<number> {
  return sweepUntilNothing(() => callSweep(db, call))
}

/** Calls a function that sweeps a batch; returns how many rows it was. */
export async function callSweep(db: Kysely<any>, call: RawBuilder<unknown>): Promise<number> {
  const { rows } = await sql<{ swept: number }>`select ${call} as swept`.execute(db)
  return rows[0]!.swept
}
