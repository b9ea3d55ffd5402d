import type { ClientBase } from 'pg'

/**
 * Key of the advisory lock of a migration run: the letters "rowh", and 1. Locks with two integers never meet those with
 * one bigint, such as the locks of tenants and of postgres-migrations.
 */
export const MIGRATION_LOCK: readonly [number, number] = [0x726f7768, 1]

/**
 * Waits until no other run is at work in this database. The lock is held to the end of the transaction, never by the
 * session, so it also works behind a transaction pooler, and a run that dies gives it back.
 */
export async function takeMigrationLock(client: ClientBase): Promise<void> {
  await client.query(`select pg_advisory_xact_lock(${MIGRATION_LOCK.join(', ')})`)
}
