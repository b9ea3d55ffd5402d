import * as z from 'zod'
import { parse } from '../documents/parse-documents.ts'
import { storableText } from '../documents/parse-text.ts'
import type { AcquireOptions, WithLockOptions } from './locks.ts'

const name = storableText(512)

export function parseLockName(given: string): string {
  return parse(name, given, 'invalid_state', 'The name of the lock')
}

const DAY_MS = 86_400_000
const acquireOptions = z.strictObject({
  leaseMs: z
    .number('is not a finite number')
    .positive('is not more than 0')
    .max(DAY_MS, 'is more than a day')
    .default(30_000),
  waitMs: z.number('is not a finite number').min(0, 'is less than 0').max(DAY_MS, 'is more than a day').default(0),
  signal: z.instanceof(AbortSignal, { error: 'is not an AbortSignal' }).optional(),
})
const withLockOptions = acquireOptions.extend({ renew: z.boolean('is not true or false').default(true) })

export function parseAcquire(options: AcquireOptions) {
  return parse(acquireOptions, options, 'invalid_state', 'The lock')
}

export function parseWithLock(options: WithLockOptions) {
  return parse(withLockOptions, options, 'invalid_state', 'The lock')
}
