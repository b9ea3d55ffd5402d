import {
  BudgetExceededError,
  CircuitOpenError,
  createRowhouseError,
  QuotaExceededError,
  RateLimitedError,
  type RowhouseError,
} from '../errors.ts'
import { resultOfCall, type WindowTuple } from '../rate-limits/rate-limit-result.ts'
import type { QuotaDenial } from './budget-types.ts'

/** What the database says of a call that it does not admit. */
export type DenialRow =
  | { readonly reason: 'model_not_allowed'; readonly model: string }
  | (Omit<QuotaDenial, 'retryAfterMs'> & {
      readonly reason: 'quota_exceeded' | 'budget_exceeded'
      readonly retryAfterMs: number | null
    })
  | {
      readonly reason: 'circuit_open'
      readonly circuit: string
      readonly cause: string | null
      readonly retryAfterMs: number | null
    }
  | { readonly reason: 'rate_limited'; readonly decidedAt: number; readonly windows: readonly WindowTuple[] }

/** The error of a call that was not admitted. */
export function denialError(denial: DenialRow): RowhouseError {
  switch (denial.reason) {
    case 'model_not_allowed':
      return createRowhouseError('model_not_allowed', `The tenant may not use the model "${denial.model}".`)
    case 'circuit_open': {
      const { circuit, cause, retryAfterMs } = denial
      const whose = circuit === '' ? 'Calls of the tenant' : `Calls of the circuit "${circuit}"`
      return new CircuitOpenError(`${whose} are stopped: ${cause ?? 'opened by hand'}.`, retryAfterMs ?? undefined)
    }
    case 'rate_limited': {
      const { decidedAt, windows } = denial
      const result = resultOfCall({ cost: 1, admitted: 0, decidedAt: decidedAt / 1000, windows }, 0)
      return new RateLimitedError(
        `The call is over the rate limit of ${result.limit}; try again in ${result.retryAfterMs} ms.`,
        result,
      )
    }
    default: {
      const { quota, metric, limit, used, reserved, requested, retryAfterMs } = denial
      const details = { quota, metric, limit, used, reserved, requested, retryAfterMs: retryAfterMs ?? undefined }
      const when = retryAfterMs === null ? '' : `; try again in ${retryAfterMs} ms at the latest`
      const show = (amount: number) => withoutNoise(amount, Math.max(limit, used, reserved, requested))
      const left = show(Math.max(limit - used - reserved, 0))
      const message = `The call asks for ${show(requested)} of "${quota}", which has ${left} of ${show(limit)} left${when}.`
      return denial.reason === 'budget_exceeded'
        ? new BudgetExceededError('budget_exceeded', message, details)
        : new QuotaExceededError('quota_exceeded', message, details)
    }
  }
}

/** A difference of numbers as large as `largest`, with the digits that they tell: 5.3 - 5 is 0.3. */
function withoutNoise(amount: number, largest: number): string {
  const digits = Math.min(12, Math.max(0, 14 - Math.floor(Math.log10(Math.max(largest, 1)))))
  return amount.toFixed(digits).replace(/\.0+$|(\.\d*[1-9])0+$/, '$1')
}
