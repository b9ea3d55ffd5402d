import { type Kysely, sql } from 'kysely'

/** Deletes finished jobs that a tenant keeps no longer, in batches of a transaction each; returns how many. */
export async function sweepJobs(db: Kysely<any>, batchSize = 1000): Promise<number> {
  for (let total = 0; ; ) {
    const { rows } = await sql<{ deleted: number }>`select rowhouse.sweep_jobs(${batchSize}) as deleted`.execute(db)
    total += rows[0]!.deleted
    if (rows[0]!.deleted < batchSize) return total
  }
}
