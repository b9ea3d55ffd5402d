import type { ClientBase } from 'pg'
import { RowhouseError } from '../errors.ts'

/**
 * Settings of every transaction of the migrator. A database, a role or a caller may have set any of them otherwise;
 * `set local` ends with the transaction, so a client that was handed in gets its own settings and role back.
 */
const SETTINGS = [
  'set local search_path = pg_catalog, pg_temp',
  'set local statement_timeout = 0',
  'set local lock_timeout = 0',
  'set local idle_in_transaction_session_timeout = 0',
  'set local standard_conforming_strings = on',
  // postgres-migrations notes the time without its zone.
  "set local timezone = 'UTC'",
  'set local client_min_messages = warning',
  // plpgsql bodies may use what a later file creates.
  'set local check_function_bodies = off',
].join('; ')

export interface TransactionOptions {
  readonly readOnly?: boolean
}

/** Runs work in one transaction of a client that is not inside one. Rolls back and rethrows when it fails. */
export async function inTransaction<T>(
  client: ClientBase,
  work: () => Promise<T>,
  { readOnly = false }: TransactionOptions = {},
): Promise<T> {
  await client.query(`begin isolation level read committed, read ${readOnly ? 'only' : 'write'}; ${SETTINGS}`)
  try {
    const result = await work()
    await client.query('commit')
    return result
  } catch (error) {
    // A connection that broke can't roll back; the server does it.
    await client.query('rollback').catch(() => {})
    throw error
  }
}

/** Errors that another transaction of the same moment caused; the same work succeeds when it is done again. */
export function isTransient(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  const { code } = error as Error & { code?: string }
  switch (code) {
    case '23505': // unique_violation: another database of this server just created the same role
    case '42710': // duplicate_object: the same, seen later
    case '40001': // serialization_failure
    case '40P01': // deadlock_detected
    case '55P03': // lock_not_available: our own lock_timeout
      return true
    case 'XX000':
      return error.message.includes('tuple concurrently')
    default:
      return false
  }
}

/**
 * Runs work again while it fails for a transient reason, at most `attempts` times in all. Pauses grow and are spread at
 * random, so that those who collided don't collide again.
 */
export async function retryTransient<T>(attempts: number, work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work()
    } catch (error) {
      if (error instanceof RowhouseError || attempt >= attempts || !isTransient(error)) throw error
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 20 * 2 ** attempt))
    }
  }
}
