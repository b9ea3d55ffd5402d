import type { Metadata } from '../documents/document-types.ts'

/** Who speaks. */
export type MessageRole = 'system' | 'user' | 'assistant' | 'tool'

/** Text. Further properties of any part are kept as they are. */
export interface TextPart {
  readonly type: 'text'
  readonly text: string
  readonly [property: string]: unknown
}

/** A model asks for a tool. */
export interface ToolCallPart {
  readonly type: 'tool_call'
  /** As the model names the call: 1 to 256 characters. */
  readonly id: string
  readonly name: string
  /** Any JSON value; comes back letter by letter. */
  readonly arguments: unknown
  readonly [property: string]: unknown
}

/** What a tool answered. */
export interface ToolResultPart {
  readonly type: 'tool_result'
  /** The id of the call. */
  readonly callId: string
  /** Any JSON value. */
  readonly result: unknown
  readonly [property: string]: unknown
}

/** Any JSON value. */
export interface JsonPart {
  readonly type: 'json'
  readonly value: unknown
  readonly [property: string]: unknown
}

export type ContentPart = TextPart | ToolCallPart | ToolResultPart | JsonPart

/** What `sessions.append` takes. */
export interface NewMessage {
  readonly role: MessageRole
  /** Parts of up to 1,048,576 bytes of JSON; a string is one text part. */
  readonly content: string | readonly ContentPart[]
  /**
   * Tokens that it takes of a context. Default: what `countTokens` of `createRowhouse` says of its parts, and 4 for what
   * surrounds them; without it an estimate, one for each 4 bytes.
   */
  readonly tokenCount?: number | undefined
  /** A JSON object of up to 65,536 bytes. Default `{}`. */
  readonly metadata?: Metadata | undefined
}

/** A message as it is stored. */
export interface Message {
  readonly tenantId: string
  readonly sessionId: string
  /** A UUID of version 7: within a session ids sort in the order in which messages were appended. */
  readonly id: string
  readonly role: MessageRole
  readonly content: readonly ContentPart[]
  readonly tokenCount: number
  readonly metadata: Metadata
  readonly createdAt: Date
}

/** What `sessions.append` may say. */
export interface AppendOptions {
  /**
   * The number of messages that the session must have; otherwise nothing is written and the call fails with
   * `session_changed`. Makes it safe to repeat an append whose outcome is unknown.
   */
  readonly expectedLength?: number | undefined
}

/** What was appended. */
export interface Appended {
  /** Ids in the order of the messages. */
  readonly ids: readonly string[]
  /** The number of messages of the session up to and with the last of them. */
  readonly length: number
  /** The tokens of each message, as given or estimated. */
  readonly tokenCounts: readonly number[]
}

/** What `sessions.messages` takes. */
export interface MessageListOptions {
  /** Default `oldest first`. */
  readonly order?: 'oldest first' | 'newest first' | undefined
  /** The most messages that come back: 1 to 1000. Default 100. */
  readonly limit?: number | undefined
  /** `nextCursor` of the page before, of the same session in the same order. */
  readonly cursor?: string | undefined
}

/** What `sessions.search` takes. */
export interface MessageSearchOptions {
  /** The most messages that come back: 1 to 1000. Default 20. */
  readonly limit?: number | undefined
  /** `nextCursor` of the page before, of the same search. */
  readonly cursor?: string | undefined
}

/** A page of messages. */
export interface MessagePage {
  readonly messages: readonly Message[]
  /** Undefined on the last page. */
  readonly nextCursor: string | undefined
}

/** What `sessions.window` takes. */
export interface WindowOptions {
  /** The size of the context in tokens. The smaller of it and `context.maxTokens` in the tenant's settings counts. */
  readonly maxTokens?: number | undefined
  /** Tokens kept free for the answer. Default: `context.reserveTokens` in the tenant's settings, else 0. */
  readonly reserveTokens?: number | undefined
}

/** The newest messages that fit a context. */
export interface MessageWindow {
  /** In their order. */
  readonly messages: readonly Message[]
  /** The tokens of all of them together. */
  readonly tokenCount: number
}
