import { AsyncLocalStorage } from 'node:async_hooks'
import { createRowhouseError } from '../errors.ts'
import type { ConnectionSource } from './connection-source.ts'
import type { ContextOptions } from './context-options.ts'
import type { TransactionScope } from './transaction-scope.ts'

/** The tenant whose `withTenant` callback the code runs in. */
export interface AmbientTenant {
  readonly tenantId: string
  readonly source: ConnectionSource
  readonly options: ContextOptions
  /** The innermost transaction or savepoint. */
  readonly scope: TransactionScope
}

const storage = new AsyncLocalStorage<AmbientTenant>()
/** The tenant of work that is no single transaction: what runs in it may enter no other tenant. */
const workStorage = new AsyncLocalStorage<string>()

/**
 * The tenant of the `withTenant` callback, or of the job, that the code runs in; undefined outside of both.
 *
 * @example
 * ```ts
 * await rowhouse.withTenant('acme', async () => {
 *   logger.info({ tenant: getCurrentTenant() }, 'started') // acme
 * })
 * ```
 */
export function getCurrentTenant(): string | undefined {
  return getAmbientTenant()?.tenantId ?? workStorage.getStore()
}

/** The ambient tenant, while its callback runs: work that was started inside and outlives it has none. */
export function getAmbientTenant(): AmbientTenant | undefined {
  const ambient = storage.getStore()
  return ambient?.scope.active ? ambient : undefined
}

/** Whether the code runs directly in what `runWithAmbientTenant(ambient, ...)` started. */
export function isAmbientTenant(ambient: AmbientTenant | undefined): boolean {
  return ambient !== undefined && storage.getStore() === ambient
}

export function runWithAmbientTenant<T>(ambient: AmbientTenant, run: () => T): T {
  return storage.run(ambient, run)
}

/** Runs what belongs to no callback, even when one started it: work for several tenants, or later than its callback. */
export function runWithoutAmbientTenant<T>(run: () => T): T {
  return storage.exit(() => workStorage.exit(run))
}

/** Runs work of a tenant, in which each call is a transaction of its own. */
export function runAsTenant<T>(tenantId: string, run: () => T): T {
  return storage.exit(() => workStorage.run(tenantId, run))
}

/**
 * The ambient tenant if `tenantId` is about to be entered inside its callback; undefined outside of one.
 * Another tenant is an error: after its savepoint the outer code would go on as that tenant.
 */
export function joinAmbientTenant(
  tenantId: string,
  source: ConnectionSource,
  options: ContextOptions,
): AmbientTenant | undefined {
  const ambient = getAmbientTenant()
  if (ambient === undefined) {
    const working = workStorage.getStore()
    if (working === undefined || working === tenantId) return undefined
    throw createRowhouseError('tenant_mismatch', `Tenant "${tenantId}" can't be entered in a job of "${working}".`)
  }
  if (ambient.tenantId !== tenantId) {
    throw createRowhouseError(
      'tenant_mismatch',
      `Tenant "${tenantId}" can't be entered inside withTenant("${ambient.tenantId}").`,
    )
  }
  // Another database, or another role: a transaction of its own.
  if (ambient.source !== source) return undefined
  for (const name of ['userId', 'requestId', 'readOnly', 'isolationLevel'] as const) {
    if (options[name] !== undefined && options[name] !== ambient.options[name]) {
      throw createRowhouseError(
        'invalid_argument',
        `The option ${name} differs from the one of the surrounding withTenant, whose transaction is joined.`,
        { hint: 'Give the option to the outermost withTenant, or finish it first.' },
      )
    }
  }
  return ambient
}
