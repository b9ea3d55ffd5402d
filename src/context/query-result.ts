import type { QueryResult } from 'kysely'
import type { QueryResultRows } from './pg-internals.ts'

const COUNTED = new Set(['INSERT', 'UPDATE', 'DELETE', 'MERGE'])

/** A result as Kysely's own Postgres dialect gives it. */
export function toQueryResult<R>({ command, rowCount, rows }: QueryResultRows): QueryResult<R> {
  return {
    ...(command !== null && COUNTED.has(command) ? { numAffectedRows: BigInt(rowCount ?? 0) } : {}),
    rows: rows as R[],
  }
}

/** Adds where the query was made to an error that otherwise shows only where its answer was read. */
export function extendStackTrace(error: unknown, here: Error): unknown {
  if (error instanceof Error && typeof error.stack === 'string' && here.stack !== undefined) {
    error.stack += `\n${here.stack.split('\n').slice(1).join('\n')}`
  }
  return error
}
