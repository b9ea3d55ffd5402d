import {
  type Compilable,
  type CompiledQuery,
  DeleteResult,
  type InferResult,
  InsertResult,
  type Kysely,
  MergeResult,
  type QueryResult,
  type RawBuilder,
  type UnknownRow,
  UpdateResult,
} from 'kysely'
import { createRowhouseError } from '../errors.ts'
import { cancelOnAbort } from './abort.ts'
import { type ContextOptions, parseContextOptions, parseTenantId } from './context-options.ts'
import type { ContextRuntime } from './context-runtime.ts'
import type { TenantQueryExecutor } from './query-executor.ts'

export interface QueryOptions extends ContextOptions {
  /** Cancels the query; the call rejects with the reason of the signal. */
  readonly signal?: AbortSignal | undefined
}

/** What `rowhouse.query` accepts: a Kysely query, raw SQL, or a compiled query. */
export type TenantQuery = Compilable<any> | RawBuilder<any> | CompiledQuery<any>

/** What `execute()` of the query resolves to; the rows of raw SQL. */
export type TenantQueryResult<Q extends TenantQuery> =
  Q extends RawBuilder<infer Row> ? Row[] : Q extends Compilable<any> | CompiledQuery<any> ? InferResult<Q> : never

/** Runs one statement as a transaction of the tenant, in one network round trip. */
export async function queryTenant<DB, Q extends TenantQuery>(
  runtime: ContextRuntime,
  tenantId: string,
  build: (db: Kysely<DB>) => Q,
  { signal, ...contextOptions }: QueryOptions = {},
): Promise<TenantQueryResult<Q>> {
  const id = parseTenantId(tenantId)
  const options = parseContextOptions(contextOptions)
  // The tenant predicate needs to know the tenant tables when the query is compiled.
  if (runtime.startupCheck.facts === undefined) await runtime.startupCheck.pass()
  const db = runtime.createKysely<DB>(id, options)
  const query = compile(build(db), db)
  const result = signal === undefined ? await db.executeQuery(query) : await executeAbortable(db, query, signal)
  return toBuilderResult(query, result) as TenantQueryResult<Q>
}

/** Unlike Kysely's own way to abort, it reports what happened instead of printing it. */
export async function executeAbortable(db: Kysely<any>, query: CompiledQuery, signal: AbortSignal) {
  const executor = db.getExecutor() as TenantQueryExecutor
  let result = await executor.provideStatementConnection(
    (connection) =>
      cancelOnAbort(signal, connection.executeQuery<UnknownRow>(query), {
        cancel: () => connection.cancelQuery(),
        abandon: (reason) => connection.abandon(reason),
      }),
    { signal },
  )
  for (const plugin of executor.plugins) {
    result = await plugin.transformResult({ queryId: query.queryId, result, signal })
  }
  return result
}

function compile(query: TenantQuery, db: Kysely<any>): CompiledQuery {
  if ('sql' in query && 'parameters' in query) return query
  if ('compile' in query && typeof query.compile === 'function') {
    // The argument is for raw queries, which are not bound to a database yet.
    return (query.compile as (executorProvider: Kysely<any>) => CompiledQuery)(db)
  }
  throw createRowhouseError(
    'invalid_argument',
    'The callback of query returns a query that has not been executed: (db) => db.selectFrom(...), without execute().',
  )
}

/** What `execute()` of the builder would resolve to. */
function toBuilderResult({ query }: CompiledQuery, { rows, numAffectedRows, numChangedRows }: QueryResult<unknown>) {
  if ('returning' in query && query.returning !== undefined) return rows
  const affected = numAffectedRows ?? 0n
  switch (query.kind) {
    case 'InsertQueryNode':
      return [new InsertResult(undefined, affected)]
    case 'UpdateQueryNode':
      return [new UpdateResult(affected, numChangedRows)]
    case 'DeleteQueryNode':
      return [new DeleteResult(affected)]
    case 'MergeQueryNode':
      return [new MergeResult(affected)]
    default:
      return rows
  }
}
