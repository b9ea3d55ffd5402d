import * as z from 'zod'
import { toJsonText } from '../context/json-text.ts'
import { parse } from '../documents/parse-documents.ts'
import { storableText } from '../documents/parse-text.ts'
import { cursor, limit } from '../sessions/parse-session.ts'
import type { LifetimeOptions, StateListOptions } from './state.ts'

const LARGEST_CHARACTER = '\u{10ffff}'
const key = storableText(512).refine((text) => !text.includes(LARGEST_CHARACTER), 'has the character U+10FFFF')
const keys = z.array(key, 'is not an array')
const prefix = z
  .string('is not a string')
  .max(512, 'has more than 512 characters')
  .refine((text) => text.isWellFormed() && !text.includes('\0'), 'has characters that no key has')

export function parseKey(given: string): string {
  return parse(key, given, 'invalid_state', 'The key')
}

export function parseKeys(given: readonly string[]): string[] {
  return parse(keys, given, 'invalid_state', 'The keys')
}

export function parsePrefix(given: string): string {
  return parse(prefix, given, 'invalid_state', 'The prefix')
}

/** A value as JSON. */
export function parseValue(value: unknown): string {
  return toJsonText(value, 'The value', 1_048_576, 'invalid_state')
}

const amount = z.number('is not a finite number')

export function parseIncrement(by: number): number {
  return parse(amount, by, 'invalid_state', 'The amount')
}

/** Up to a hundred years. */
const lifetime = z.strictObject({
  ttlMs: z
    .number('is not a finite number')
    .positive('is not more than 0')
    .max(3_153_600_000_000, 'is more than a hundred years')
    .optional(),
})

/** Milliseconds, or null for ever. */
export function parseLifetime(options: LifetimeOptions): number | null {
  return parse(lifetime, options, 'invalid_state', 'The lifetime').ttlMs ?? null
}

const list = z.strictObject({ prefix: prefix.default(''), limit: limit(100), cursor })

export function parseStateList(options: StateListOptions) {
  return parse(list, options, 'invalid_state', 'The list')
}
