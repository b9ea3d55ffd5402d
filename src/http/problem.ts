import { QuotaExceededError, type RateLimitedError, RowhouseError } from '../errors.ts'
import { denialHeaders, rateLimitHeaders } from './rate-limit-headers.ts'

/** What went wrong, as RFC 9457 has it: the body of an answer of the type `application/problem+json`. */
export interface Problem {
  /** Stable: `urn:rowhouse:problem:tenant_suspended`, or `about:blank` for what is no error of rowhouse. */
  readonly type: string
  readonly title: string
  readonly status: number
  /** For a caller; left out where it would tell about the inside of the application. */
  readonly detail?: string
  /** The code of the error: `tenant_suspended`. */
  readonly code?: string
  /** The quota, budget or rate limit that refused the request. */
  readonly quota?: string
  /** The same, as the draft of the RateLimit fields has it. */
  readonly 'violated-policies'?: readonly string[]
  /** To find the request in a log. */
  readonly requestId?: string
}

/** A problem with its header fields. */
export interface ProblemAnswer {
  readonly problem: Problem
  readonly headers: Readonly<Record<string, string>>
}

const TITLES: Readonly<Record<number, string>> = {
  400: 'Bad request',
  401: 'Not authenticated',
  402: 'Payment required',
  403: 'Forbidden',
  404: 'Not found',
  409: 'Conflict',
  410: 'Gone',
  413: 'Content too large',
  415: 'Unsupported media type',
  422: 'Unprocessable content',
  429: 'Too many requests',
  503: 'Not available',
}

/**
 * What to answer when something was thrown. Messages of errors that the caller can mend are passed on, also those of
 * `http-errors`, which Express and its parsers throw; of anything else he learns the status alone.
 */
export function toProblem(
  error: unknown,
  { requestId }: { readonly requestId?: string | undefined } = {},
): ProblemAnswer {
  const known = error instanceof RowhouseError && error.httpStatus !== 500 ? error : undefined
  const refusal = known ?? toRefusal(error)
  const status = refusal?.httpStatus ?? 500
  const headers: Record<string, string> = { 'Content-Type': 'application/problem+json' }
  if (status === 401) headers['WWW-Authenticate'] = 'Bearer'
  const retryAfterMs = (known as { retryAfterMs?: unknown } | undefined)?.retryAfterMs
  if (typeof retryAfterMs === 'number') headers['Retry-After'] = String(Math.max(1, Math.ceil(retryAfterMs / 1000)))
  else if (status === 503) headers['Retry-After'] = '1'
  const limited = known as Partial<RateLimitedError> | undefined
  if (limited?.result !== undefined) Object.assign(headers, rateLimitHeaders(limited.result.windows, limited.limitName))
  if (known instanceof QuotaExceededError) Object.assign(headers, denialHeaders(known.denial))
  const quota = known instanceof QuotaExceededError ? known.denial.quota : limited?.limitName
  return {
    problem: {
      type: known === undefined ? 'about:blank' : `urn:rowhouse:problem:${known.code}`,
      title: TITLES[status] ?? (status < 500 ? 'Bad request' : 'Internal error'),
      status,
      ...(refusal !== undefined && status < 500 && { detail: refusal.message }),
      ...(known !== undefined && { code: known.code }),
      ...(quota !== undefined && { quota, 'violated-policies': [quota] }),
      ...(requestId !== undefined && { requestId }),
    },
    headers,
  }
}

/**
 * An error that says itself that it is the caller's, as those of `http-errors` do: a body that is no JSON, or too large. A
 * status alone says nothing, because clients of other services throw with the status of what those answered.
 */
function toRefusal(error: unknown): { readonly httpStatus: number; readonly message: string } | undefined {
  if (!(error instanceof Error)) return undefined
  const { expose, status } = error as { expose?: unknown; status?: unknown }
  if (expose !== true || typeof status !== 'number' || status < 400 || status > 499) return undefined
  return { httpStatus: status, message: error.message }
}

/**
 * The same as a Fetch response.
 *
 * @example
 * ```ts
 * import { problemResponse } from 'rowhouse/http'
 *
 * export async function GET(request: Request): Promise<Response> {
 *   try {
 *     return Response.json({ path: new URL(request.url).pathname })
 *   } catch (error) {
 *     return problemResponse(error)
 *   }
 * }
 * ```
 */
export function problemResponse(error: unknown, options?: { readonly requestId?: string | undefined }): Response {
  const { problem, headers } = toProblem(error, options)
  return new Response(JSON.stringify(problem), { status: problem.status, headers })
}
