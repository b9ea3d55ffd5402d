/**
 * Errors of rowhouse.
 *
 * Every failure that rowhouse detects is a {@link RowhouseError} with a stable `code`. Failures that the database
 * detects carry an SQLSTATE of class `RH`; each SQLSTATE is one code, and a class of its own where callers branch.
 * Messages name only what the caller named: never another tenant's id, key or row.
 */

import type { QuotaDenial } from './budgets/budget-types.ts'
import { ERROR_KINDS, type ErrorKind, type RowhouseErrorCode } from './error-kinds.ts'
import type { QueuePosition } from './queues/queue-types.ts'
import type { RateLimitResult } from './rate-limits/rate-limit-result.ts'

export type { RowhouseErrorCode } from './error-kinds.ts'

export interface RowhouseErrorOptions {
  /** What led to this error. Kept out of `JSON.stringify` and log serializers: it may hold values. */
  readonly cause?: unknown
  /** A more specific next step than the one of the code. */
  readonly hint?: string
}

/**
 * A failure that rowhouse detected.
 *
 * @example
 * ```ts
 * try {
 *   await rowhouse.withTenant('acme', work)
 * } catch (error) {
 *   if (error instanceof RowhouseError && error.retryable) return retryLater()
 *   throw error
 * }
 * ```
 */
export class RowhouseError extends Error {
  /** Stable name of the failure. */
  readonly code: RowhouseErrorCode
  /** The SQLSTATE when the database raised it, for use from other languages. */
  readonly sqlstate: string | undefined
  /** The HTTP status to answer a request with. */
  readonly httpStatus: number
  /** Whether the same call may succeed later without a change. */
  readonly retryable: boolean
  /** The next thing to do, in one sentence. */
  readonly hint: string

  constructor(code: RowhouseErrorCode, message: string, options: RowhouseErrorOptions = {}) {
    super(message)
    const kind: ErrorKind = ERROR_KINDS[code]
    this.name = new.target.name
    this.code = code
    this.sqlstate = kind.sqlstate
    this.httpStatus = kind.httpStatus
    this.retryable = kind.retryable ?? false
    this.hint = options.hint ?? kind.hint
    if (options.cause !== undefined) {
      Object.defineProperty(this, 'cause', { value: options.cause, enumerable: false, configurable: true })
    }
  }
}

/** No tenant was set (SQLSTATE RH001). */
export class NoTenantContextError extends RowhouseError {}
/** The tenant is not in the registry (RH002, HTTP 404). */
export class TenantNotFoundError extends RowhouseError {}
/** The tenant is suspended (RH003, HTTP 403). */
export class TenantSuspendedError extends RowhouseError {}
/** The tenant is inactive, being erased or erased (RH004, HTTP 403). */
export class TenantInactiveError extends RowhouseError {}
/** Another tenant was entered inside a tenant's transaction (RH005). */
export class TenantMismatchError extends RowhouseError {}
/**
 * The tenant is being moved, to another database or other partitions (RH033, HTTP 503). The same call succeeds when that is
 * done.
 */
export class TenantMovingError extends RowhouseError {
  /** Milliseconds after which trying again makes sense. */
  readonly retryAfterMs: number = 1000
}
/** The tenant is in another database, which this process does not know (RH034, HTTP 503). */
export class TenantMovedError extends RowhouseError {
  /** The name of that database, as the process that moved the tenant calls it. */
  readonly placement: string | undefined

  constructor(code: RowhouseErrorCode, message: string, options: RowhouseErrorOptions = {}) {
    super(code, message, options)
    const { detail } = (options.cause ?? {}) as { detail?: unknown }
    this.placement = typeof detail === 'string' ? detail : undefined
  }
}
/** A connection could not be trusted any more and was destroyed instead of reused. */
export class ConnectionTaintedError extends RowhouseError {}

/** A call over its rate limit (HTTP 429). Nothing was used up. */
export class RateLimitedError extends RowhouseError {
  /** Milliseconds until the same call would be admitted, if nothing else is used. */
  readonly retryAfterMs: number
  /** The whole answer, for example for response headers. */
  readonly result: RateLimitResult
  /** Name of the limit, where it has one. */
  readonly limitName: string | undefined

  constructor(message: string, result: RateLimitResult, limitName?: string) {
    super('rate_limited', message)
    this.retryAfterMs = result.retryAfterMs
    this.result = result
    this.limitName = limitName
  }
}

/** A call that does not fit into a quota (HTTP 429). Nothing was booked. */
export class QuotaExceededError extends RowhouseError {
  /** Milliseconds until it fits at the latest, if nothing else is used; undefined when time alone does not help. */
  readonly retryAfterMs: number | undefined
  /** Which quota, and how it stands. */
  readonly denial: QuotaDenial

  constructor(code: 'quota_exceeded' | 'budget_exceeded', message: string, denial: QuotaDenial) {
    super(code, message)
    this.retryAfterMs = denial.retryAfterMs
    this.denial = denial
  }
}

/** A call that does not fit into a budget of money (HTTP 402). Nothing was booked. */
export class BudgetExceededError extends QuotaExceededError {}

/** Why an API key was refused. For operators: a caller learns none of it. */
export type InvalidApiKeyReason =
  | 'malformed'
  | 'unknown_tenant'
  | 'tenant_suspended'
  | 'tenant_inactive'
  | 'unknown_key'
  | 'wrong_secret'
  | 'revoked'
  | 'expired'
  | 'ip_not_allowed'
  | 'missing_scope'

/** An API key was refused (HTTP 401). The message is the same whatever is wrong with it. */
export class InvalidApiKeyError extends RowhouseError {
  /** For your log. Not enumerable, so that no serializer sends it to the caller. */
  declare readonly reason: InvalidApiKeyReason

  constructor(reason: InvalidApiKeyReason) {
    super('invalid_api_key', 'The API key is not valid.')
    Object.defineProperty(this, 'reason', { value: reason, enumerable: false })
  }
}

/** Too many wrong API keys from one address (HTTP 429). */
export class TooManyAttemptsError extends RowhouseError {
  /** Milliseconds after which keys of this address are looked at again. */
  readonly retryAfterMs: number

  constructor(retryAfterMs: number) {
    super('too_many_attempts', 'There were too many wrong API keys.')
    this.retryAfterMs = retryAfterMs
  }
}

/** A request that got no slot before its deadline (HTTP 503). It waits no more. */
export class QueueTimeoutError extends RowhouseError {
  /** Milliseconds after which the request would probably have had its slot; undefined: not known. */
  readonly retryAfterMs: number | undefined
  /** How it stood; undefined when it was gone before it was asked for. */
  readonly position: QueuePosition | undefined

  constructor(message: string, position: QueuePosition | undefined) {
    super('queue_timeout', message)
    this.retryAfterMs = position?.estimatedWaitMs
    this.position = position
  }
}

/** A call whose circuit is open (HTTP 503). Nothing was booked. */
export class CircuitOpenError extends RowhouseError {
  /** Milliseconds until one call may try; undefined: not before somebody resets it. */
  readonly retryAfterMs: number | undefined

  constructor(message: string, retryAfterMs: number | undefined) {
    super('circuit_open', message)
    this.retryAfterMs = retryAfterMs
  }
}

const ERROR_CLASSES: Partial<Record<RowhouseErrorCode, typeof RowhouseError>> = {
  no_tenant_context: NoTenantContextError,
  tenant_not_found: TenantNotFoundError,
  tenant_suspended: TenantSuspendedError,
  tenant_inactive: TenantInactiveError,
  tenant_mismatch: TenantMismatchError,
  tenant_moving: TenantMovingError,
  tenant_moved: TenantMovedError,
  connection_tainted: ConnectionTaintedError,
}

const CODE_BY_SQLSTATE = new Map<string, RowhouseErrorCode>()
for (const [code, kind] of Object.entries(ERROR_KINDS) as [RowhouseErrorCode, ErrorKind][]) {
  if (kind.sqlstate !== undefined) CODE_BY_SQLSTATE.set(kind.sqlstate, code)
}

/** Makes the error of a code, as the class that callers branch on. */
export function createRowhouseError(
  code: RowhouseErrorCode,
  message: string,
  options?: RowhouseErrorOptions,
): RowhouseError {
  const ErrorClass = ERROR_CLASSES[code] ?? RowhouseError
  return new ErrorClass(code, message, options)
}

/**
 * Turns an error that Postgres raised with an SQLSTATE of class RH into its {@link RowhouseError}; any other value is
 * returned as it is. The hint of the raise statement, where it has one, replaces the hint of the code.
 */
export function mapDatabaseError(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof RowhouseError) return error
  const { code: sqlstate, hint } = error as Error & { code?: unknown; hint?: unknown }
  const code = typeof sqlstate === 'string' ? CODE_BY_SQLSTATE.get(sqlstate) : undefined
  if (code === undefined) return error
  return createRowhouseError(code, error.message, {
    cause: error,
    ...(typeof hint === 'string' && hint !== '' ? { hint } : {}),
  })
}
