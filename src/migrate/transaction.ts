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
  // Off, reading a table under row-level security is an error even where a policy admits every row.
  'set local row_security = on',
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

/** Another transaction stood in the way at this moment; the same work succeeds when it is done again. */
export function isTransient(error: unknown): boolean {
  const { code, message } = databaseError(error)
  switch (code) {
    case '40001': // serialization_failure
    case '40P01': // deadlock_detected
    case '55P03': // lock_not_available: our own lock_timeout
      return true
    case 'XX000':
      return message.startsWith('tuple concurrently')
    default:
      return false
  }
}

/** Another database of this server created or granted the same roles at this moment. */
export function isRoleCollision(error: unknown): boolean {
  const { code } = databaseError(error)
  // unique_violation, and duplicate_object where the other one was a little faster.
  return code === '23505' || code === '42710' || isTransient(error)
}

/** The error that Postgres sent, which may be the cause of ours. */
function databaseError(error: unknown): { code?: string; message: string } {
  const origin = error instanceof RowhouseError ? error.cause : error
  return origin instanceof Error ? (origin as Error & { code?: string }) : { message: '' }
}

const LONGEST_PAUSE_MS = 500

/**
 * Runs work again while it fails for a reason that passes, at most `attempts` times in all. Pauses grow and are spread
 * at random, so that those who collided don't collide again.
 */
export async function retry<T>(
  attempts: number,
  passes: (error: unknown) => boolean,
  work: () => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work()
    } catch (error) {
      if (attempt >= attempts || !passes(error)) throw error
      const pause = Math.random() * Math.min(LONGEST_PAUSE_MS, 20 * 2 ** attempt)
      await new Promise((resolve) => setTimeout(resolve, pause))
    }
  }
}
