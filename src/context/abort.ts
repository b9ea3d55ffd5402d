/** How long an aborted statement or rollback may take before its connection is cut. */
export const ABORT_GRACE_MS = 2000

export interface Abortable {
  /** Asks the server to stop what runs. */
  readonly cancel: () => Promise<void>
  /** Gives the connection up, because the server did not stop in time. */
  readonly abandon: (reason: unknown) => void
}

/**
 * The result of a statement, which is cancelled when the signal aborts: then the reason of the signal is thrown. If the
 * statement was quicker than the abort, its result stands.
 */
export async function cancelOnAbort<T>(
  signal: AbortSignal,
  statement: Promise<T>,
  { cancel, abandon }: Abortable,
): Promise<T> {
  const abandoned = Promise.withResolvers<never>()
  let timer: NodeJS.Timeout | undefined
  const abort = () => {
    void cancel()
    timer = setTimeout(() => {
      abandon(signal.reason)
      abandoned.reject(signal.reason)
    }, ABORT_GRACE_MS)
  }
  signal.addEventListener('abort', abort, { once: true })
  if (signal.aborted) abort()
  // Whichever loses the race has nobody to report to.
  statement.catch(() => {})
  try {
    return await Promise.race([statement, abandoned.promise])
  } catch (error) {
    throw signal.aborted ? signal.reason : error
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', abort)
  }
}

/** The result of the work, or the reason of the signal as soon as it aborts; the work is not waited for then. */
export async function untilAborted<T>(signal: AbortSignal | undefined, work: Promise<T>): Promise<T> {
  if (signal === undefined) return work
  const aborted = Promise.withResolvers<never>()
  const abort = () => aborted.reject(signal.reason)
  signal.addEventListener('abort', abort, { once: true })
  if (signal.aborted) abort()
  work.catch(() => {})
  try {
    return await Promise.race([work, aborted.promise])
  } finally {
    signal.removeEventListener('abort', abort)
  }
}
