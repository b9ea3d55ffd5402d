import { setTimeout as sleep } from 'node:timers/promises'
import { RowhouseError, TenantMovingError } from '../errors.ts'
import { DEFAULT_MAX_PAUSE_MS } from '../placements/max-pause.ts'

/** How often a statement is tried that fails for a reason that may pass. */
const ATTEMPTS = 5
const FIRST_PAUSE_MS = 50

/** Whether the database refuses the values of a statement (classes 22, 23 and 54), which it would do again. */
export function isStatementRefused(error: unknown): boolean {
  const { code } = error as { code?: unknown }
  return typeof code === 'string' && /^(22|23|54)[0-9A-Z]{3}$/.test(code)
}

/** Repeats what the database answers once, however often it is asked, while it fails for a reason that may pass. */
export async function persistently<T>(run: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await run()
    } catch (error) {
      const isFinal = error instanceof RowhouseError && (!error.retryable || error.httpStatus < 500)
      if (isFinal || isStatementRefused(error) || attempt === ATTEMPTS) throw error
      await sleep(FIRST_PAUSE_MS * 2 ** (attempt - 1) * (0.5 + Math.random()))
    }
  }
}

/** The same for what was used, which must be booked: a tenant on its way to another database is waited for. */
export async function bookPersistently<T>(book: () => Promise<T>): Promise<T> {
  const deadline = performance.now() + DEFAULT_MAX_PAUSE_MS
  for (;;) {
    try {
      return await persistently(book)
    } catch (error) {
      if (!(error instanceof TenantMovingError) || performance.now() >= deadline) throw error
      await sleep(error.retryAfterMs)
    }
  }
}
