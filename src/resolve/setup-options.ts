import * as z from 'zod'
import { createRowhouseError } from '../errors.ts'

export const text = z.string('is not text').regex(/\S/, 'is empty')
export const texts = z.array(text, 'is not a list of texts')
export const func = z.custom<(...values: any[]) => any>((value) => typeof value === 'function', 'is not a function')
export const yesOrNo = z.boolean('is neither true nor false')
/** The name of a header field. */
export const fieldName = z.string('is not text').regex(/^[\w!#$%&'*+.^`|~-]+$/, 'is not the name of a header field')

/**
 * Options of what is made once, when a server starts. What is wrong with them is said then, in one sentence: a check whose
 * option comes from a variable that is not set is never left out silently. Options that a check hangs on are
 * `exactOptional`: undefined is not the same as left out.
 */
export function parseSetupOptions<T>(maker: string, schema: z.ZodType<T>, options: unknown): T {
  const { success, data, error } = schema.safeParse(options)
  if (success) return data
  const [issue] = error.issues
  if (issue?.code === 'unrecognized_keys') {
    throw createRowhouseError('invalid_argument', `${maker} has no option ${issue.keys.join(', ')}.`)
  }
  const path = issue?.path ?? []
  if (path.length === 0) throw createRowhouseError('invalid_argument', `${maker} needs an object of options.`)
  const option = `The option ${path.join('.')} of ${maker}`
  throw valueAt(options, path) === undefined
    ? createRowhouseError('invalid_argument', `${option} is undefined: set the variable that it comes from.`, {
        hint: 'What is optional may be left out; given as undefined, it is taken for a mistake.',
      })
    : createRowhouseError('invalid_argument', `${option} ${issue?.message}.`)
}

function valueAt(options: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<any>((value, key) => value?.[key], options)
}
