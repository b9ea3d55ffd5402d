import * as z from 'zod'
import { toJsonText } from '../context/json-text.ts'
import { parse } from '../documents/parse-documents.ts'
import { storableText } from '../documents/parse-text.ts'
import { createRowhouseError } from '../errors.ts'
import type { EnqueueOptions, Task, TaskOptions } from './job-types.ts'

const CODE = 'invalid_job'
const MAXIMUM_BYTES = 1_048_576

const attempts = z.int('is not a whole number').min(1, 'is less than 1').max(1000, 'is more than 1000')
const enqueueOptions = z.strictObject({
  tenantId: z.string('is not a string').optional(),
  runAt: z.date('is not a valid Date').optional(),
  priority: z
    .int('is not a whole number')
    .min(-32_767, 'is less than -32767')
    .max(32_767, 'is more than 32767')
    .default(0),
  maxAttempts: attempts.optional(),
  key: storableText(512).optional(),
  ifWaiting: z.enum(['replace', 'keep'], 'is not replace or keep').default('replace'),
})

export function parseEnqueue(options: EnqueueOptions) {
  return parse(enqueueOptions, options, CODE, 'The job')
}

const name = storableText(200)
const fn = z.custom<(...values: any[]) => any>((value) => typeof value === 'function', 'is not a function')
const taskOptions = z.strictObject({
  payload: z.custom<z.ZodType>((value) => value instanceof z.ZodType, 'is not a schema of zod').optional(),
  handler: fn,
  maxAttempts: attempts.default(10),
  leaseMs: z
    .int('is not a whole number')
    .min(100, 'is less than 100')
    .max(86_400_000, 'is more than a day')
    .default(60_000),
  retryAfterMs: fn.optional(),
})

export type ParsedTask = z.infer<typeof taskOptions>

/** Tasks with their defaults. */
export function parseTasks(tasks: Readonly<Record<string, Task>>): Map<string, ParsedTask> {
  return new Map(
    Object.entries(tasks).map(([task, given]) => {
      parse(name, task, CODE, 'The name of the task')
      const options: TaskOptions<any, any> = typeof given === 'function' ? { handler: given } : given
      return [task, parse(taskOptions, options, CODE, `The task ${task}`)]
    }),
  )
}

/** A payload as JSON, after its schema has had nothing against it. */
export function parsePayload(task: string, schema: z.ZodType | undefined, payload: unknown): string {
  readPayload(task, schema, payload)
  return toJsonText(payload, 'The payload', MAXIMUM_BYTES, CODE)
}

/** What the schema makes of a payload. */
export function readPayload(task: string, schema: z.ZodType | undefined, payload: unknown): unknown {
  if (schema === undefined) return payload
  const { success, data, error } = schema.safeParse(payload)
  if (success) return data
  const [issue] = error.issues
  // Where and what, without the value.
  throw createRowhouseError(CODE, `The payload of ${task}: ${issue?.path.join('.') || 'it'}: ${issue?.code}.`, {
    cause: error,
  })
}

export function parseStepName(given: string): string {
  return parse(name, given, CODE, 'The name of the step')
}

/** The result of a step as JSON; nothing is null. */
export function parseStepResult(result: unknown): string {
  return toJsonText(result === undefined ? null : result, 'The result of the step', MAXIMUM_BYTES, CODE)
}

const id = z.guid('is not a UUID')

export function parseJobId(given: string): string {
  return parse(id, given, CODE, 'The id of the job')
}

const wakeUp = z.object({ tenantId: z.string().regex(/^[a-zA-Z0-9_-]{1,64}$/), id: z.guid() })

/** Undefined when it is none: whoever can write the tables of a queue library may have written anything. */
export function parseWakeUp(payload: unknown): { readonly tenantId: string; readonly id: string } | undefined {
  return wakeUp.safeParse(payload).data
}
