import { createRowhouseError, RowhouseError, type RowhouseErrorCode } from '../errors.ts'
import type { Budget } from './budget.ts'
import type { Settlement, SettleOptions } from './budget-types.ts'
import { bookPersistently, isStatementRefused } from './persistently.ts'
import type { Units } from './units.ts'

/** What is wrong with the units or details of a settlement, so that repeating it would be in vain. */
const REFUSALS: ReadonlySet<RowhouseErrorCode> = new Set([
  'invalid_amount',
  'unknown_quota',
  'unknown_price',
  'invalid_argument',
  'invalid_audit_entry',
])

/**
 * Settles a call that ran. If what it is said to have used is refused, its worst case is booked, without any details, and
 * then the refusal is thrown: a call that ran is never free.
 */
export async function settleForCertain(
  budget: Budget,
  requestId: string,
  units: Units,
  options: SettleOptions,
  worstCase: Units,
): Promise<Settlement> {
  try {
    return await bookPersistently(() => budget.settle(requestId, units, options))
  } catch (error) {
    if (!isRefusal(error)) throw error
    await bookPersistently(() => budget.settle(requestId, worstCase, { failed: options.failed }))
    const { message } = error as Error
    throw createRowhouseError(
      error instanceof RowhouseError ? error.code : 'invalid_argument',
      `${message.replace(/\.$/, '')}; the worst case that the call had reserved was booked in its place.`,
      { cause: error },
    )
  }
}

function isRefusal(error: unknown): boolean {
  return error instanceof RowhouseError ? REFUSALS.has(error.code) : isStatementRefused(error)
}
