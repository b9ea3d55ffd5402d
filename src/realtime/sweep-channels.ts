import { type Kysely, sql } from 'kysely'
import { sweepInBatches } from '../sweep/sweep-in-batches.ts'

/** Deletes what channels of a tenant keep no longer, in batches of a transaction each; returns how many rows. */
export function sweepChannels(db: Kysely<any>, batchSize = 1000): Promise<number> {
  return sweepInBatches(db, batchSize, sql`rowhouse.sweep_channels(${batchSize})`)
}
