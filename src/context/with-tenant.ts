import { isAbortedTransactionError, type Kysely } from 'kysely'
import { createRowhouseError } from '../errors.ts'
import { ABORT_GRACE_MS, untilAborted } from './abort.ts'
import { type ContextOptions, parseContextOptions, parseTenantId } from './context-options.ts'
import type { ContextRuntime } from './context-runtime.ts'
import { type AmbientTenant, joinAmbientTenant, runWithAmbientTenant } from './current-tenant.ts'
import { type RetryOptions, withRetry } from './retry.ts'
import { TenantContext } from './tenant-context.ts'
import { TransactionScope } from './transaction-scope.ts'
import type { TransactionSession } from './transaction-session.ts'

export interface WithTenantOptions extends ContextOptions {
  /** Cancels the running statement and rolls back; the call rejects with the reason of the signal. */
  readonly signal?: AbortSignal | undefined
  /** Runs the callback again when the database asks for it: serialization failures and deadlocks. Default: never. */
  readonly retry?: RetryOptions | undefined
}

/** What runs as a tenant, in one transaction. */
export type TenantCallback<DB, T> = (db: Kysely<DB>, tenant: TenantContext<DB>) => Promise<T> | T

/** Runs `fn` in one transaction of the tenant, or in a savepoint of the surrounding one of the same tenant. */
export async function withTenant<DB, T>(
  runtime: ContextRuntime,
  tenantId: string,
  fn: TenantCallback<DB, T>,
  { signal, retry, ...contextOptions }: WithTenantOptions = {},
): Promise<T> {
  const id = parseTenantId(tenantId)
  const options = parseContextOptions(contextOptions)
  const ambient = joinAmbientTenant(id, runtime.source, options)
  if (ambient !== undefined) {
    if (retry !== undefined) {
      throw createRowhouseError(
        'invalid_argument',
        'retry belongs to the outermost withTenant: a savepoint can not be retried.',
      )
    }
    signal?.throwIfAborted()
    return runInSavepoint(runtime, ambient, fn)
  }
  signal?.throwIfAborted()
  if (runtime.startupCheck.facts === undefined) await runtime.startupCheck.pass()
  return withRetry(retry, signal, () => runInTransaction(runtime, id, fn, options, signal))
}

/** Runs `fn` in a savepoint of the transaction that the ambient tenant is in. */
export async function runInSavepoint<DB, T>(
  runtime: ContextRuntime,
  ambient: AmbientTenant,
  fn: TenantCallback<DB, T>,
): Promise<T> {
  const { scope, leave } = await ambient.scope.nest({ exclusive: true })
  let result: T
  try {
    result = await callWithTenant(runtime, { ...ambient, scope }, fn)
    if (scope.end().unawaited) throw unawaitedQuery()
  } catch (error) {
    scope.end()
    // A savepoint that can't be rolled back leaves a failed transaction, which the outer commit reports.
    await leave('rollback').catch(() => {})
    throw error
  }
  await leave('release')
  return result
}

async function runInTransaction<DB, T>(
  runtime: ContextRuntime,
  tenantId: string,
  fn: TenantCallback<DB, T>,
  options: ContextOptions,
  signal: AbortSignal | undefined,
): Promise<T> {
  const session = runtime.createSession(runtime.identify(tenantId, options), signal)
  session.begin({})
  const scope = new TransactionScope(session)
  const ambient = { tenantId, source: runtime.source, options, scope }
  try {
    const result = await untilAborted(signal, callWithTenant(runtime, ambient, fn))
    if (scope.end().unawaited) throw unawaitedQuery()
    await commit(session)
    return result
  } catch (error) {
    scope.end()
    await rollback(session, signal)
    throw error
  } finally {
    await session.release()
  }
}

/** Calls the callback with handles of its own. */
async function callWithTenant<DB, T>(
  runtime: ContextRuntime,
  ambient: AmbientTenant,
  fn: TenantCallback<DB, T>,
): Promise<T> {
  const db = runtime.createScopeKysely<DB>(ambient)
  const tenant = new TenantContext<DB>({
    tenantId: ambient.tenantId,
    db,
    run: (nestedFn) => runInSavepoint(runtime, ambient, nestedFn),
    identity: ambient.options,
    auditBuffer: runtime.auditBuffer,
    settings: runtime.settings,
    dataKeys: runtime.dataKeys,
    countTokens: runtime.countTokens,
  })
  return runWithAmbientTenant(ambient, () => fn(db, tenant))
}

async function commit(session: TransactionSession): Promise<void> {
  try {
    await session.commit()
  } catch (error) {
    if (!isAbortedTransactionError(error)) throw error
    throw createRowhouseError(
      'aborted_transaction',
      'The transaction was rolled back instead of committed, because one of its statements had failed.',
      { cause: error },
    )
  }
}

/** Never rejects: a connection that did not confirm the rollback is destroyed, which rolls back as well. */
async function rollback(session: TransactionSession, signal: AbortSignal | undefined): Promise<void> {
  const rolledBack = session.rollback().catch((error) => session.destroy(error))
  if (!signal?.aborted) return rolledBack
  void session.cancel()
  let timer: NodeJS.Timeout | undefined
  const grace = new Promise<void>((resolve) => {
    timer = setTimeout(() => {
      session.destroy(signal.reason)
      resolve()
    }, ABORT_GRACE_MS)
  })
  await Promise.race([rolledBack, grace])
  clearTimeout(timer)
}

function unawaitedQuery(): Error {
  return createRowhouseError(
    'unawaited_query',
    'The callback returned while a query or a nested transaction of its own had not ended; everything was rolled back.',
  )
}
