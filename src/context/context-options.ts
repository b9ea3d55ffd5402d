import { type IsolationLevel, TRANSACTION_ISOLATION_LEVELS } from 'kysely'
import * as z from 'zod'
import { createRowhouseError } from '../errors.ts'

/** Who acts, and how the transaction runs. */
export interface ContextOptions {
  /** Becomes `app.user_id`: up to 200 characters. */
  readonly userId?: string | undefined
  /** Becomes `app.request_id`: up to 200 characters. */
  readonly requestId?: string | undefined
  /** Refuses writes. */
  readonly readOnly?: boolean | undefined
  /** Default: the one of the server, usually `read committed`. */
  readonly isolationLevel?: Exclude<IsolationLevel, 'snapshot'> | undefined
}

const TENANT_ID = /^[a-zA-Z0-9_-]{1,64}$/

const settingValue = z
  .string()
  .max(200)
  .refine((value) => !value.includes('\0'), 'contains a zero byte')

const contextOptions = z.object({
  userId: settingValue.optional(),
  requestId: settingValue.optional(),
  readOnly: z.boolean().optional(),
  isolationLevel: z.enum(TRANSACTION_ISOLATION_LEVELS).exclude(['snapshot']).optional(),
})

/** Checks a tenant id: 1 to 64 letters, digits, `_` or `-`. */
export function parseTenantId(tenantId: unknown): string {
  // An invalid id may be anything, so the message does not repeat it.
  if (typeof tenantId !== 'string') {
    throw createRowhouseError('invalid_tenant_id', `A tenant id is a string, not ${describe(tenantId)}.`)
  }
  if (!TENANT_ID.test(tenantId)) {
    throw createRowhouseError(
      'invalid_tenant_id',
      'A tenant id is 1 to 64 letters, digits, underscores or hyphens; the given one is not.',
    )
  }
  return tenantId
}

export function parseContextOptions(options: ContextOptions): ContextOptions {
  if (hasNoOptions(options)) return NO_OPTIONS
  return parseOptions(contextOptions, options)
}

const NO_OPTIONS: ContextOptions = {}

/** Whether nothing is said that differs from the defaults: what most calls do. */
export function hasNoOptions(options: ContextOptions): boolean {
  if (typeof options !== 'object' || options === null) return false
  for (const name in options) {
    if (options[name as keyof ContextOptions] !== undefined) return false
  }
  return true
}

/** What a schema makes of options; raises `invalid_argument` with one sentence about the first thing that is wrong. */
export function parseOptions<T>(schema: z.ZodType<T>, options: unknown): T {
  const { success, data, error } = schema.safeParse(options)
  if (success) return data
  throw invalidOptions(error)
}

function invalidOptions(error: z.ZodError): Error {
  const [issue] = error.issues
  const path = issue?.path.join('.') ?? ''
  return createRowhouseError(
    'invalid_argument',
    `${path === '' ? 'The options' : `The option ${path}`}: ${issue?.message}.`,
  )
}

function describe(value: unknown): string {
  return value === null ? 'null' : typeof value
}
