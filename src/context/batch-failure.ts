import { createRowhouseError, mapDatabaseError } from '../errors.ts'
import type { Batch, BatchFailure, BatchOutcome } from './batch.ts'
import type { ClientLease } from './client-lease.ts'
import { explainPreludeError } from './explain-error.ts'

/** The error of a failed batch, for the caller. */
export function explainFailure({ error, phase }: BatchFailure, lease: ClientLease, role: string | undefined): unknown {
  if (phase !== 'before' || lease.unusable !== undefined) return mapDatabaseError(error)
  return explainPreludeError(error, role, lease.login)
}

/**
 * Ends the transaction of a batch that failed, so that its connection can take another one. When that fails too, the
 * connection is given up.
 */
export async function endFailedBatch(
  { phase }: BatchFailure,
  lease: ClientLease,
  cleanUp: Batch['cleanUp'],
  send: (batch: Batch) => Promise<BatchOutcome | undefined>,
): Promise<void> {
  if (lease.unusable !== undefined) return
  // Before commit was reached, the failed transaction is still open; a failed commit has ended it.
  const outcome = await send({ before: [], end: phase === 'end' ? undefined : 'rollback', cleanUp })
  if (outcome?.failure !== undefined) lease.markUnusable(outcome.failure.error)
}

/** Gives up a connection on which a statement ended the transaction of the tenant. Returns the error for the caller. */
export function taint(lease: ClientLease | undefined): Error {
  const error = createRowhouseError(
    'connection_tainted',
    'A statement ended the transaction of the tenant; the connection was destroyed.',
  )
  lease?.markUnusable(error)
  return error
}
