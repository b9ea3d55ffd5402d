import * as z from 'zod'
import type { TenantResolver } from '../resolve/resolver.ts'
import { fieldName, func, parseSetupOptions, text, yesOrNo } from '../resolve/setup-options.ts'

const SOURCES = ['subdomain', 'domain', 'path', 'header', 'query', 'function'] as const

/** Options of every middleware, as they are checked when it is made. */
const requestOptions = {
  resolve: z.custom<TenantResolver>(
    (value) => typeof (value as TenantResolver | null | undefined)?.resolve === 'function',
    'is not a resolver, such as fromApiKey()',
  ),
  trustUnauthenticated: z
    .array(z.enum(SOURCES, `is not one of ${SOURCES.join(', ')}`), 'is not a list of sources')
    .optional(),
  cacheMs: z.number('is not a number').min(0, 'is negative').max(3_600_000, 'is more than an hour').optional(),
  listen: yesOrNo.optional(),
  requestIdHeader: fieldName.optional(),
}

const rateLimitOptions = z.strictObject({
  name: text.optional(),
  // Left out: the stored ones. Undefined is a mistake, and would be another limit.
  windows: z.array(z.looseObject({}, 'is not a window'), 'is not a list of windows').min(1, 'is empty').exactOptional(),
  subject: z
    .union([z.enum(['tenant', 'user', 'key', 'route']), func], 'is not tenant, user, key, route, or a function')
    .optional(),
  cost: z.union([z.int().min(1), func], 'is neither a whole number from 1 nor a function').optional(),
})

const units = z.record(z.string(), z.union([z.number(), z.string()], 'is not an amount'), 'is not an object of units')

const quotaOptions = z.strictObject({
  units: z.union([func, units], 'is neither an object of amounts nor a function').exactOptional(),
  model: z.union([text, func], 'is neither the name of a model nor a function').exactOptional(),
  leaseMs: z.int('is not a whole number').min(1, 'is not positive').max(86_400_000, 'is more than a day').optional(),
  advertise: yesOrNo.optional(),
  onError: func.optional(),
})

/** Limits are checks as well: one that is undefined is a mistake. */
export const limitOptions = { rateLimit: rateLimitOptions.exactOptional(), quota: quotaOptions.exactOptional() }
export const listenerOptions = { onError: func.optional() }
export const originOptions = { origin: func.optional() }
export const stripOptions = { stripPath: yesOrNo.optional() }

/** Raises `invalid_argument` now, not at the first request: also for names that are written wrong. */
export function assertRequestOptions(maker: string, options: unknown, more: z.ZodRawShape = {}): void {
  parseSetupOptions(maker, z.strictObject({ ...requestOptions, ...more }), options)
}

/** The same for what has options of its own besides, and checks those. */
export function assertCommonOptions(maker: string, options: unknown): void {
  parseSetupOptions(maker, z.looseObject(requestOptions), options)
}

export function assertRateLimit(maker: string, options: unknown): void {
  parseSetupOptions(maker, rateLimitOptions, options)
}

export function assertQuota(maker: string, options: unknown): void {
  parseSetupOptions(maker, quotaOptions, options)
}

export function assertLimits(maker: string, options: unknown): void {
  parseSetupOptions(maker, z.strictObject(limitOptions), options)
}
