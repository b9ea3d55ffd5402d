import * as z from 'zod'
import { toJsonText } from '../context/json-text.ts'
import { parse } from '../documents/parse-documents.ts'
import { storableJson, storableText } from '../documents/parse-text.ts'
import { createRowhouseError } from '../errors.ts'
import type { TokenCounter } from '../prompt/count-tokens.ts'
import type {
  AppendOptions,
  MessageListOptions,
  MessageSearchOptions,
  NewMessage,
  WindowOptions,
} from './message-types.ts'
import { cursor, limit } from './parse-session.ts'

/** The arrays of one statement; element n of each belongs to message n. */
export interface MessageBatch {
  readonly roles: string[]
  /** As JSON. */
  readonly contents: string[]
  readonly tokenCounts: (number | null)[]
  /** As JSON. */
  readonly metadata: string[]
}

const MAXIMUM_MESSAGES = 1000
const MAXIMUM_BYTES = 1_048_576

const text = z.string('is not a string')
const shortText = text.min(1, 'is empty').max(256, 'has more than 256 characters')
const value = z.unknown().refine((given) => given !== undefined, 'is missing')
const part = z.discriminatedUnion(
  'type',
  [
    z.looseObject({ type: z.literal('text'), text }),
    z.looseObject({ type: z.literal('tool_call'), id: shortText, name: shortText, arguments: value }),
    z.looseObject({ type: z.literal('tool_result'), callId: shortText, result: value }),
    z.looseObject({ type: z.literal('json'), value }),
  ],
  'is not text, tool_call, tool_result or json',
)
const content = z.union([z.string(), z.array(part)], 'is not a string or an array of parts')

const message = z.strictObject({
  role: z.enum(['system', 'user', 'assistant', 'tool'], 'is not system, user, assistant or tool'),
  content: z.unknown(),
  tokenCount: tokens().optional(),
  metadata: storableJson(65_536).optional(),
})

/** Checks messages before anything is sent, and counts the tokens of those that don't say; null: the database estimates. */
export function parseMessages(messages: readonly NewMessage[], countTokens?: TokenCounter): MessageBatch {
  if (!Array.isArray(messages)) throw createRowhouseError('invalid_message', 'append takes an array of messages.')
  if (messages.length === 0 || messages.length > MAXIMUM_MESSAGES) {
    throw createRowhouseError(
      'invalid_message',
      `1 to ${MAXIMUM_MESSAGES} messages are appended at once, not ${messages.length}.`,
    )
  }
  const batch: MessageBatch = { roles: [], contents: [], tokenCounts: [], metadata: [] }
  for (const [index, given] of messages.entries()) {
    const which = `Message ${index + 1} of ${messages.length}`
    const { role, tokenCount, metadata = '{}' } = parse(message, given, 'invalid_message', which)
    batch.roles.push(role)
    batch.contents.push(parseContent(given.content, which))
    batch.tokenCounts.push(tokenCount ?? (countTokens ? countMessage(given.content, countTokens) : null))
    batch.metadata.push(metadata)
  }
  return batch
}

/** The content as JSON: of what was given, since parsing may change the order of properties. */
function parseContent(given: unknown, which: string): string {
  if (Array.isArray(given)) {
    for (const [index, element] of given.entries()) {
      parse(part, element, 'invalid_message', `${which}, part ${index + 1} of ${given.length}`)
    }
  } else {
    parse(content, given, 'invalid_message', `${which}: content`)
  }
  const parts = typeof given === 'string' ? [{ type: 'text', text: given }] : given
  return toJsonText(parts, `${which}: content`, MAXIMUM_BYTES, 'invalid_message')
}

/** What stands around a message in a context, as the database estimates it too. */
const FRAME_TOKENS = 4

/** The tokens of a message: text as it is, other parts as JSON. */
function countMessage(given: NewMessage['content'], countTokens: TokenCounter): number {
  const texts =
    typeof given === 'string' ? [given] : given.map((of) => (of.type === 'text' ? of.text : JSON.stringify(of)))
  const count = texts.reduce((sum, each) => sum + countTokens(each), FRAME_TOKENS)
  if (Number.isSafeInteger(count) && count >= FRAME_TOKENS) return count
  throw createRowhouseError('invalid_argument', 'The option countTokens returned no whole number from 0.')
}

const appendOptions = z.strictObject({
  expectedLength: z.int('is not a whole number').min(0, 'is less than 0').optional(),
})

export function parseAppend(options: AppendOptions): number | null {
  return parse(appendOptions, options, 'invalid_argument', 'The append').expectedLength ?? null
}

const messageList = z.strictObject({
  order: z.enum(['oldest first', 'newest first'], 'is not oldest first or newest first').default('oldest first'),
  limit: limit(100),
  cursor,
})

export function parseMessageList(options: MessageListOptions) {
  return parse(messageList, options, 'invalid_argument', 'The list')
}

const messageSearch = z.strictObject({ query: storableText(1000), limit: limit(20), cursor })

export function parseMessageSearch(query: string, options: MessageSearchOptions) {
  const parsed = parse(messageSearch, { ...options, query }, 'invalid_argument', 'The search')
  const words = parsed.query.split(/\s+/).filter((word) => word !== '').length
  if (words < 1 || words > 32) {
    throw createRowhouseError('invalid_argument', `The search is for 1 to 32 words, not ${words}.`)
  }
  return parsed
}

const window = z.strictObject({ maxTokens: tokens().optional(), reserveTokens: tokens().optional() })

export function parseWindow(options: WindowOptions) {
  const { maxTokens = null, reserveTokens = null } = parse(window, options, 'invalid_argument', 'The window')
  return { maxTokens, reserveTokens }
}

function tokens() {
  return z.int('is not a whole number').min(0, 'is less than 0').max(100_000_000, 'is more than 100000000')
}
