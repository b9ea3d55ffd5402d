import { createRowhouseError, mapDatabaseError } from '../errors.ts'
import type { BatchFailure } from './batch.ts'
import type { ClientLease } from './client-lease.ts'
import { explainPreludeError } from './explain-error.ts'

/** The error of a failed batch, for the caller. */
export function explainFailure({ error, phase }: BatchFailure, lease: ClientLease, role: string | undefined): unknown {
  if (phase !== 'before' || lease.unusable !== undefined) return mapDatabaseError(error)
  return explainPreludeError(error, role, lease.login)
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
