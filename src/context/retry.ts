import { setTimeout as sleep } from 'node:timers/promises'
import { createRowhouseError } from '../errors.ts'

export interface RetryOptions {
  /** How often the callback runs at most, the first time included: 2 to 20. */
  readonly attempts: number
  /** Upper bound of the pause before the second attempt, in milliseconds; it doubles each time. Default 20. */
  readonly initialDelayMs?: number | undefined
  /** Upper bound of every pause, in milliseconds. Default 1000. */
  readonly maxDelayMs?: number | undefined
}

/** The database asks to run the transaction again: serialization failure, deadlock. */
const RETRYABLE_SQLSTATES = new Set(['40001', '40P01'])

/** Runs `run`, and again from the start when it fails with an error that a new transaction may not meet. */
export async function withRetry<T>(
  retry: RetryOptions | undefined,
  signal: AbortSignal | undefined,
  run: () => Promise<T>,
): Promise<T> {
  if (retry === undefined) return run()
  const { attempts, initialDelayMs = 20, maxDelayMs = 1000 } = retry
  if (!Number.isInteger(attempts) || attempts < 2 || attempts > 20) {
    throw createRowhouseError('invalid_argument', 'The option retry.attempts is a whole number from 2 to 20.')
  }
  for (let attempt = 1; ; attempt++) {
    try {
      return await run()
    } catch (error) {
      const { code } = error as { code?: unknown }
      if (attempt === attempts || typeof code !== 'string' || !RETRYABLE_SQLSTATES.has(code)) throw error
      // A random part of the pause keeps transactions that collided from colliding again.
      const bound = Math.min(maxDelayMs, initialDelayMs * 2 ** (attempt - 1))
      await sleep(Math.random() * bound)
      signal?.throwIfAborted()
    }
  }
}
