import type { CompiledQuery, Log, QueryResult } from 'kysely'
import type { SentStatement } from './batch.ts'
import { endFailedBatch, explainFailure, taint } from './batch-failure.ts'
import type { ConnectionSource } from './connection-source.ts'
import { logged } from './logged.ts'
import { prepareValue, type QueryResultRows } from './pg-internals.ts'
import { extendStackTrace, toQueryResult } from './query-result.ts'
import type { SessionIdentity } from './session-identity.ts'
import { guardStatement, isTransactionTag } from './statement-guard.ts'

/** A statement of the user's. */
export interface Statement {
  readonly sql: string
  readonly parameters: readonly unknown[]
}

/** Runs queries of a handle, each as a transaction of its own. `leavesNothing`: there is nothing to clean after them. */
export function singleStatements(
  source: ConnectionSource,
  identity: SessionIdentity,
  log: Log,
  { leavesNothing = false }: { readonly leavesNothing?: boolean } = {},
): (query: CompiledQuery) => Promise<QueryResult<unknown>> {
  const cleanUp = leavesNothing ? [] : source.cleanUp
  return (query) =>
    logged(log, query, false, async () => {
      try {
        return toQueryResult(await executeSingleStatement(source, identity, query, cleanUp))
      } catch (error) {
        throw extendStackTrace(error, new Error())
      }
    })
}

/**
 * Runs a statement as a transaction of its own, in one network round trip. It does no more than it must: whatever a
 * query waits for here, it waits for in addition to the database.
 */
async function executeSingleStatement(
  source: ConnectionSource,
  identity: SessionIdentity,
  { sql, parameters }: Statement,
  cleanUp: readonly string[],
): Promise<QueryResultRows> {
  const statement = toSentStatement(sql, parameters)
  const before = identity.prelude(identity.settings)
  const lease = await source.acquire()
  if (identity.onNotice !== undefined) lease.listen(identity.onNotice)
  try {
    const outcome = await lease.send({ before, statement, end: 'commit', cleanUp })
    if (outcome.failure !== undefined) {
      const error = explainFailure(outcome.failure, lease, identity.role)
      await endFailedBatch(outcome.failure, lease, source.cleanUp, (batch) => lease.send(batch))
      throw error
    }
    if (isTransactionTag(outcome.tag, sql)) throw taint(lease)
    return outcome.result!
  } finally {
    await lease.release()
  }
}

/** Checks a statement of the user's, and turns its values into what is sent for them. */
export function toSentStatement(sql: string, parameters: readonly unknown[]): SentStatement {
  guardStatement(sql)
  return { sql, values: parameters.map((value) => prepareValue(value)) }
}
