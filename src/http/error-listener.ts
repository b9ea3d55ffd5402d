import type { TenantRequest } from './tenant-request.ts'

/** Told of an error that became an answer: for your log, which may know more than the caller. */
export type ErrorListener<Request> = (error: unknown, request: Request, requestId: string) => void

/** What one call of a middleware knows of a request, for those behind it. */
interface Known {
  /** Stands in the answer, and is the id in log and audit trail. */
  readonly requestId: string
  readonly tell: (error: unknown) => void
  tenantRequest?: TenantRequest
}

const requests = new WeakMap<object, Known>()

/** Before anything can go wrong with a request: under which id, and to whom, that is told. */
export function expectErrors<R extends object>(
  request: R,
  requestId: string,
  onError: ErrorListener<R> | undefined,
): (error: unknown) => void {
  const tell = (error: unknown) => tellSafely(onError, error, request, requestId)
  requests.set(request, { requestId, tell })
  return tell
}

export function knownOf(request: object): Known | undefined {
  return requests.get(request)
}

/** A listener that fails is no reason to leave a caller without an answer. */
export function tellSafely<Values extends readonly unknown[]>(
  listener: ((...values: Values) => void) | undefined,
  ...values: Values
): void {
  try {
    listener?.(...values)
  } catch (error) {
    process.emitWarning(error instanceof Error ? error : String(error), { type: 'RowhouseWarning' })
  }
}
