import type { Metadata } from '../documents/document-types.ts'

/** What `sessions.create` takes. */
export interface SessionOptions {
  /** The user it belongs to: 1 to 200 characters. Default: the user of the context, where it names one. */
  readonly userId?: string | undefined
  /** The agent that answers in it: 1 to 200 characters. */
  readonly agentId?: string | undefined
  /** A JSON object of up to 65,536 bytes. Default `{}`. */
  readonly metadata?: Metadata | undefined
  /** The model providers and tool servers that `assertProvider` lets it use, up to 100 of them. Default: all. */
  readonly providers?: readonly string[] | undefined
  /** In so many milliseconds it is over, by the clock of the database. Default: when its retention ends. */
  readonly expiresInMs?: number | undefined
}

/** What `sessions.update` changes; omitted properties stay, null clears. */
export interface SessionChanges {
  readonly userId?: string | null | undefined
  readonly agentId?: string | null | undefined
  /** Replaces the whole object. */
  readonly metadata?: Metadata | undefined
  readonly providers?: readonly string[] | null | undefined
  readonly expiresInMs?: number | null | undefined
}

/** A conversation of a tenant. */
export interface Session {
  readonly tenantId: string
  /** A random UUID. */
  readonly id: string
  /** What others call it, where it was opened under a name of theirs. */
  readonly externalId: string | null
  readonly userId: string | null
  readonly agentId: string | null
  readonly metadata: Metadata
  /** Null is no restriction. */
  readonly providers: readonly string[] | null
  /** Number of its messages. */
  readonly messageCount: number
  /** Tokens of all its messages. */
  readonly tokenCount: number
  /** The session that it began as a copy of. */
  readonly forkedFrom: string | null
  /** Null: when its retention ends. */
  readonly expiresAt: Date | null
  readonly createdAt: Date
  /** When it was last changed, touched or written to. */
  readonly updatedAt: Date
}

/** What `sessions.list` takes. */
export interface SessionListOptions {
  /** Only sessions of this user. */
  readonly userId?: string | undefined
  /** Only sessions with this agent. */
  readonly agentId?: string | undefined
  /** The most sessions that come back: 1 to 1000. Default 50. */
  readonly limit?: number | undefined
  /** `nextCursor` of the page before, of a list with the same filters. */
  readonly cursor?: string | undefined
}

/** A page of sessions, those used last first. */
export interface SessionPage {
  readonly sessions: readonly Session[]
  /** Undefined on the last page. */
  readonly nextCursor: string | undefined
}
