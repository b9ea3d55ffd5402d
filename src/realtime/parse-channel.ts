import * as z from 'zod'
import { toJsonText } from '../context/json-text.ts'
import { parse } from '../documents/parse-documents.ts'
import { storableJson, storableText } from '../documents/parse-text.ts'
import type { JoinOptions, ReadMessagesOptions, SubscribeOptions } from './channel.ts'

const CODE = 'invalid_channel'
const name = storableText(512)
const memberIds = z.array(name, 'is not an array').max(10_000, 'has more than 10000 elements')

export function parseChannelName(given: string): string {
  return parse(name, given, CODE, 'The name of the channel')
}

/** A message as JSON. */
export function parsePayload(payload: unknown): string {
  return toJsonText(payload, 'The message', 262_144, CODE)
}

export function parseMemberId(given: string): string {
  return parse(name, given, CODE, 'The id of the member')
}

export function parseMemberIds(given: string | readonly string[]): string[] {
  return parse(memberIds, typeof given === 'string' ? [given] : given, CODE, 'The ids of the members')
}

const ttlMs = z
  .number('is not a finite number')
  .positive('is not more than 0')
  .max(86_400_000, 'is more than a day')
  .default(60_000)
const join = z.strictObject({ metadata: storableJson(65_536).optional(), ttlMs })
const renew = z.strictObject({ ttlMs })

export function parseJoin(options: JoinOptions): { metadata: string; ttlMs: number } {
  const { metadata = '{}', ttlMs } = parse(join, options, CODE, 'The member')
  return { metadata, ttlMs }
}

export function parseRenewal(options: { readonly ttlMs?: number | undefined }): number {
  return parse(renew, options, CODE, 'The renewal').ttlMs
}

const messageId = z.int('is not a whole number').min(0, 'is less than 0')
const subscribe = z.strictObject({
  after: messageId.optional(),
  signal: z.instanceof(AbortSignal, { error: 'is not an AbortSignal' }).optional(),
})
const handler = z.custom<(...values: any[]) => unknown>((value) => typeof value === 'function', 'is not a function')

export function parseSubscription(given: unknown, options: SubscribeOptions): SubscribeOptions {
  parse(handler, given, CODE, 'The handler of messages')
  return parse(subscribe, options, CODE, 'The subscription')
}

const limit = z.int('is not a whole number').min(1, 'is less than 1').max(1000, 'is more than 1000').default(100)
const read = z.strictObject({ after: messageId.default(0), limit })

export function parseRead(options: ReadMessagesOptions): { after: number; limit: number } {
  return parse(read, options, CODE, 'What is to be read')
}

const list = z.strictObject({
  after: name.optional(),
  limit: z.int('is not a whole number').min(1, 'is less than 1').max(10_000, 'is more than 10000').default(1000),
})

export function parseMemberList(options: { readonly after?: string | undefined; readonly limit?: number | undefined }) {
  return parse(list, options, CODE, 'The list')
}
