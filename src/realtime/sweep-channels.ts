import { type Kysely, sql } from 'kysely'

/** Deletes what channels of a tenant keep no longer, in batches of a transaction each; returns how many rows. */
export async function sweepChannels(db: Kysely<any>, batchSize = 1000): Promise<number> {
  for (let total = 0; ; ) {
    const { rows } = await sql<{ deleted: number }>`select rowhouse.sweep_channels(${batchSize}) as deleted`.execute(db)
    total += rows[0]!.deleted
    if (rows[0]!.deleted < batchSize) return total
  }
}
