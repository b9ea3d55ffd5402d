import { createRowhouseError, RowhouseError } from '../errors.ts'
import type { Budget } from './budget.ts'
import type { AdmitRequest, SettleDetails, Settlement } from './budget-types.ts'
import { bookPersistently, persistently } from './persistently.ts'
import { addUnits, type Units, unitsToJson } from './units.ts'

/** How long a call may take before its reservation is given back, unless it is kept alive. */
export const DEFAULT_LEASE_MS = 60_000

/** A call to run inside the budget. */
export interface RunRequest extends AdmitRequest, Omit<SettleDetails, 'latencyMs' | 'failed'> {
  /** Aborts the signal of the call; one that aborts before the admission refuses it. */
  readonly signal?: AbortSignal | undefined
}

/** What a function inside the budget gets. */
export interface RunningCall {
  readonly requestId: string
  /** Aborts when the caller gives up, or when the reservation was lost. */
  readonly signal: AbortSignal
  /** Says what was used. Several reports add up. */
  report(units: Units): void
  /** Books what was used so far, and was not reported otherwise, under a name; repeating it changes nothing. */
  settlePart(part: string, units: Units): Promise<Settlement>
}

export type BudgetCallback<T> = (call: RunningCall) => T | Promise<T>

/** Admits a call, runs it with a lease that is kept alive, and settles it. */
export async function runInBudget<T>(
  budget: Budget,
  { signal, kind, provider, metadata, ...request }: RunRequest & { readonly requestId: string },
  fn: BudgetCallback<T>,
): Promise<T> {
  signal?.throwIfAborted()
  const { requestId, leaseMs = DEFAULT_LEASE_MS, units: worstCase = {} } = request
  await admitOnce(budget, request)
  const lost = new AbortController()
  const stopKeepingAlive = keepAlive(budget, requestId, leaseMs, lost)
  const begun = performance.now()
  let reported: Units | undefined
  let parts = 0
  const settle = (units: Units, failed: boolean) => {
    const latencyMs = Math.round(performance.now() - begun)
    return bookPersistently(() => budget.settle(requestId, units, { kind, provider, metadata, latencyMs, failed }))
  }
  const call: RunningCall = {
    requestId,
    signal: signal === undefined ? lost.signal : AbortSignal.any([signal, lost.signal]),
    report: (units) => {
      unitsToJson(units)
      reported = addUnits(reported ?? {}, units)
    },
    settlePart: async (part, units) => {
      const settlement = await bookPersistently(() =>
        budget.settle(requestId, units, { part, kind, provider, metadata }),
      )
      parts++
      return settlement
    },
  }
  try {
    let result: T
    try {
      result = await fn(call)
    } catch (error) {
      // That the caller gave up says nothing about the provider.
      const failed = !call.signal.aborted
      // The error of the call matters more than one of the books; what can't be given back now expires by itself.
      if (reported !== undefined || parts > 0) await settle(reported ?? {}, failed).catch(() => {})
      else await bookPersistently(() => budget.release(requestId, { failed })).catch(() => {})
      throw error
    }
    await settle(reported ?? (parts > 0 ? {} : worstCase), false)
    return result
  } finally {
    stopKeepingAlive()
  }
}

/** Two calls with one request id would spend twice what was reserved once. */
async function admitOnce(budget: Budget, request: AdmitRequest): Promise<void> {
  let attempts = 0
  const { duplicate } = await persistently(() => {
    attempts++
    return budget.admit(request)
  })
  // On a later attempt it is our own admission, whose answer was lost.
  if (duplicate && attempts === 1) {
    throw createRowhouseError('request_id_used', 'A call of this request id is at work already.')
  }
}

/** Extends the lease three times within its length; aborts when it is lost. By the clock that only runs forward. */
function keepAlive(budget: Budget, requestId: string, leaseMs: number, lost: AbortController): () => void {
  let heldUntil = performance.now() + leaseMs
  let stopped = false
  const extend = async () => {
    const sent = performance.now()
    try {
      await budget.extend(requestId, leaseMs)
      heldUntil = sent + leaseMs
    } catch (error) {
      const isFinal = error instanceof RowhouseError && !error.retryable
      if (isFinal || performance.now() > heldUntil) lose(error)
    }
  }
  const lose = (cause: unknown) => {
    if (stopped) return
    stop()
    lost.abort(createRowhouseError('reservation_expired', 'The reservation could not be extended.', { cause }))
  }
  const timer = setInterval(() => void extend(), Math.max(leaseMs / 3, 1))
  timer.unref()
  const stop = () => {
    stopped = true
    clearInterval(timer)
  }
  return stop
}
