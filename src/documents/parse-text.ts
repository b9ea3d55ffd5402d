import * as z from 'zod'

/** Text that Postgres stores as it is. */
export function storableText(maximum: number): z.ZodType<string> {
  return z
    .string('is not a string')
    .min(1, 'is empty')
    .refine((text) => codePoints(text, maximum) <= maximum, `has more than ${maximum} characters`)
    .refine((text) => !text.includes('\0'), 'contains a zero byte, which Postgres can not store')
    .refine((text) => text.isWellFormed(), 'was cut in the middle of a character; use text.toWellFormed()')
}

/** A JSON object that Postgres stores as it is, as text. */
export function storableJson(maximumBytes?: number): z.ZodType<string, unknown> {
  return z.unknown().transform((value, context) => {
    const fail = (message: string) => {
      context.issues.push({ code: 'custom', message, input: value })
      return z.NEVER
    }
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return fail('is not an object')
    let text: string | undefined
    try {
      text = JSON.stringify(value)
    } catch {
      return fail('can not be written as JSON')
    }
    if (text === undefined || !text.startsWith('{')) return fail('is not an object')
    if (/(^|[^\\])(\\\\)*\\u(0000|d[89a-f])/.test(text)) {
      return fail('contains a zero byte or half of a character, which Postgres can not store')
    }
    if (maximumBytes !== undefined && Buffer.byteLength(text) > maximumBytes)
      return fail(`has more than ${maximumBytes} bytes`)
    return text
  })
}

/** The length as Postgres counts it; long texts aren't counted further than needed. */
function codePoints(text: string, maximum: number): number {
  if (text.length <= maximum || text.length > 2 * maximum) return text.length
  let count = 0
  for (const _ of text) count++
  return count
}
