import { createRowhouseError, RowhouseError } from '../errors.ts'
import type { Budget } from './budget.ts'
import type { AdmitRequest, SettleAudit, SettleDetails, Settlement } from './budget-types.ts'
import { detailsToJson } from './call-arguments.ts'
import { bookPersistently, persistently } from './persistently.ts'
import { settleForCertain } from './settle-for-certain.ts'
import { addUnits, largerUnits, remainingUnits, type Units, unitsToJson } from './units.ts'

/** How long a call may take before its reservation is given back, unless it is kept alive. */
export const DEFAULT_LEASE_MS = 60_000

/** A call to run inside the budget. */
export interface RunRequest extends AdmitRequest, Omit<SettleDetails, 'latencyMs' | 'failed'> {
  /** Aborts the signal of the call; one that aborts before the admission refuses it. */
  readonly signal?: AbortSignal | undefined
  /** Told what was booked when the call ended, with the quotas whose soft limit that crossed. */
  readonly onSettled?: ((settlement: Settlement) => void) | undefined
}

export interface ReportOptions {
  /** The entry of the audit trail that the settlement of the call writes; in place of that of the request. */
  readonly audit?: SettleAudit | undefined
}

/** What a function inside the budget gets. */
export interface RunningCall {
  readonly requestId: string
  /** Aborts when the caller gives up, or when the reservation was lost. */
  readonly signal: AbortSignal
  /** Says what was used. Several reports add up. After one that is refused, at least the worst case is booked. */
  report(units: Units, options?: ReportOptions): void
  /** Books what was used so far, and was not reported otherwise, under a name; repeating it changes nothing. */
  settlePart(part: string, units: Units): Promise<Settlement>
}

export type BudgetCallback<T> = (call: RunningCall) => T | Promise<T>

/** Admits a call, runs it with a lease that is kept alive, and settles it. */
export async function runInBudget<T>(
  budget: Budget,
  { signal, kind, provider, metadata, audit, onSettled, ...request }: RunRequest & { readonly requestId: string },
  fn: BudgetCallback<T>,
): Promise<T> {
  signal?.throwIfAborted()
  const { requestId, leaseMs = DEFAULT_LEASE_MS, units: worstCase = {} } = request
  const details = { kind, provider, metadata }
  // What the settlement would refuse is refused before the call runs.
  detailsToJson({ ...details, audit })
  await admitOnce(budget, request)
  const lost = new AbortController()
  const stopKeepingAlive = keepAlive(budget, requestId, leaseMs, lost)
  const begun = performance.now()
  let reported: Units | undefined
  let inParts: Units | undefined
  let entry = audit
  /** Something was used of which nobody knows how much. */
  let refused = false
  const settle = async (units: Units, failed: boolean) => {
    const latencyMs = Math.round(performance.now() - begun)
    const rest = remainingUnits(worstCase, inParts ?? {})
    const used = refused ? largerUnits(units, rest) : units
    const settlement = await settleForCertain(
      budget,
      requestId,
      used,
      { ...details, latencyMs, failed, audit: entry },
      rest,
    )
    onSettled?.(settlement)
  }
  const call: RunningCall = {
    requestId,
    signal: signal === undefined ? lost.signal : AbortSignal.any([signal, lost.signal]),
    report: (units, options) => {
      try {
        unitsToJson(units)
        detailsToJson({ audit: options?.audit })
      } catch (error) {
        refused = true
        throw error
      }
      reported = addUnits(reported ?? {}, units)
      entry = options?.audit ?? entry
    },
    settlePart: async (part, units) => {
      try {
        const settlement = await bookPersistently(() => budget.settle(requestId, units, { ...details, part }))
        if (!settlement.duplicate) inParts = addUnits(inParts ?? {}, units)
        return settlement
      } catch (error) {
        refused = true
        throw error
      }
    },
  }
  try {
    let result: T
    try {
      result = await fn(call)
    } catch (error) {
      // That the caller gave up says nothing about the provider.
      const failed = !call.signal.aborted
      if (reported === undefined && inParts === undefined && !refused) {
        // What can't be given back now expires by itself.
        await bookPersistently(() => budget.release(requestId, { failed })).catch(() => {})
        throw error
      }
      await settle(reported ?? {}, failed).catch((settlementError: unknown) => {
        throw new AggregateError(
          [error, settlementError],
          'The call failed, and so did the settlement of what it had used.',
        )
      })
      throw error
    }
    await settle(reported ?? (inParts === undefined ? worstCase : {}), false)
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
