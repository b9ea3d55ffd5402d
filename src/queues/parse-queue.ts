import * as z from 'zod'
import { parse } from '../documents/parse-documents.ts'
import type { QueueRequest } from './queue-types.ts'

const DAY_MS = 86_400_000

const name = z
  .string('is not a string')
  .regex(
    /^[a-z][a-z0-9_-]{0,62}$/,
    'is not 1 to 63 small letters, digits, underscores or hyphens that begin with a letter',
  )

export function parseQueueName(given: string): string {
  return parse(name, given, 'invalid_queue_request', 'The name of the queue')
}

const milliseconds = (least: number) =>
  z.int('is not a whole number').min(least, `is less than ${least}`).max(DAY_MS, 'is more than a day')
const request = z.strictObject({
  cost: z
    .number('is not a number')
    .min(0.000001, 'is less than 0.000001')
    .max(1_000_000, 'is more than 1000000')
    .default(1),
  deadlineMs: milliseconds(0).default(30_000),
  leaseMs: milliseconds(100).default(30_000),
  keepMs: milliseconds(100).default(15_000),
})

/** A request with its defaults. */
export type ParsedQueueRequest = z.infer<typeof request>

export function parseQueueRequest(given: QueueRequest): ParsedQueueRequest {
  return parse(request, given, 'invalid_queue_request', 'The request')
}

const ticket = z.guid('is not a UUID')

export function parseTicket(given: string): string {
  return parse(ticket, given, 'invalid_queue_request', 'The ticket').toLowerCase()
}
