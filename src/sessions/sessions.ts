import { type RawBuilder, sql } from 'kysely'
import type { TenantExecutor } from '../context/tenant-executor.ts'
import type { TokenCounter } from '../prompt/count-tokens.ts'
import { sweepInBatches } from '../sweep/sweep-in-batches.ts'
import { decodeCursor, encodeCursor } from './cursor.ts'
import type {
  Appended,
  AppendOptions,
  MessageListOptions,
  MessagePage,
  MessageSearchOptions,
  MessageWindow,
  NewMessage,
  WindowOptions,
} from './message-types.ts'
import { parseAppend, parseMessageList, parseMessageSearch, parseMessages, parseWindow } from './parse-message.ts'
import {
  parseChanges,
  parseExternalId,
  parseId,
  parseProvider,
  parseSession,
  parseSessionList,
  parseTouch,
} from './parse-session.ts'
import { PostgresSessionStore } from './postgres-session-store.ts'
import { type MessageRow, type SessionRow, toMessage, toSession } from './rows.ts'
import type { Session, SessionChanges, SessionListOptions, SessionOptions, SessionPage } from './session-types.ts'

const UUID = /^[0-9a-f-]{36}$/
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/

/**
 * The conversations of one tenant.
 *
 * Inside `withTenant` every call joins its transaction; outside, each is a transaction of its own in one round trip.
 * A session that never existed, is over, or belongs to another tenant is the same to all of them: `session_not_found`,
 * or nothing. Bad input fails with `invalid_session`, `invalid_message`, `invalid_cursor` or `invalid_argument`, and
 * nothing is written.
 *
 * A session is over when it expires, or when it was not used for as long as the tenant keeps sessions: `retentionDays:
 * { sessions: 90 }` in its settings, else 30 days in the tier `free`, 365 in `enterprise` and 90 in others.
 */
export class Sessions {
  readonly #executor: TenantExecutor
  readonly #countTokens: TokenCounter | undefined

  /** @internal */
  constructor(executor: TenantExecutor, countTokens?: TokenCounter) {
    this.#executor = executor
    this.#countTokens = countTokens
  }

  /**
   * Creates a session under a random id.
   *
   * SQL: `select * from rowhouse.create_session($1, $2, $3, $4, $5)`
   *
   * @example
   * ```ts
   * const session = await acme.sessions.create({ userId: 'u_1', agentId: 'support', metadata: { channel: 'web' } })
   * ```
   */
  async create(options: SessionOptions = {}): Promise<Session> {
    const { userId, agentId, metadata, providers, expiresInMs } = parseSession(options)
    const [session] = await this.#sessions(sql`
      rowhouse.create_session(${userId}, ${agentId}, ${metadata}::jsonb, ${providers}::text[], ${inFuture(expiresInMs)})`)
    return session!
  }

  /**
   * Reads a session; undefined when the tenant has none of this id.
   *
   * SQL: `select * from rowhouse.get_session($1)`
   */
  async get(sessionId: string): Promise<Session | undefined> {
    const [session] = await this.#sessions(sql`rowhouse.get_session(${parseSessionId(sessionId)}::uuid)`)
    return session
  }

  /**
   * Returns when the session may use a model provider or tool server: all of them, unless it was created with a list.
   * For the place where calls go out, whatever a model or a user asked for.
   *
   * Errors: `provider_not_allowed` (403), `session_not_found`.
   *
   * SQL: `select rowhouse.assert_provider($1, $2)`
   *
   * @example
   * ```ts
   * const session = await acme.sessions.create({ providers: ['anthropic', 'https://tools.example.com/mcp'] })
   * await acme.sessions.assertProvider(session.id, 'https://tools.example.com/mcp')
   * ```
   */
  async assertProvider(sessionId: string, provider: string): Promise<void> {
    const id = parseSessionId(sessionId)
    await sql`select rowhouse.assert_provider(${id}::uuid, ${parseProvider(provider)})`.execute(this.#executor.db)
  }

  /**
   * Reads a session by its id, or by the name that others gave it; undefined when the tenant has neither.
   *
   * SQL: `select * from rowhouse.find_session($1)`
   */
  async find(id: string): Promise<Session | undefined> {
    const [session] = await this.#sessions(sql`rowhouse.find_session(${parseExternalId(id)})`)
    return session
  }

  /**
   * The session of this id or name, which is created when there is none: for conversations that something else named,
   * such as the thread of an agent framework or of a chat program.
   *
   * SQL: `select * from rowhouse.open_session($1)`
   *
   * @example
   * ```ts
   * const session = await acme.sessions.open('slack:C024BE91L:1718040000.000100')
   * ```
   */
  async open(externalId: string): Promise<Session> {
    const [session] = await this.#sessions(sql`rowhouse.open_session(${parseExternalId(externalId)})`)
    return session!
  }

  /**
   * Lists sessions, those used last first. One that is used between two pages moves to the front, where the next page
   * doesn't look; none comes twice.
   *
   * SQL: `select * from rowhouse.list_sessions($1, $2, $3, $4, $5)`
   *
   * @example
   * ```ts
   * const { sessions, nextCursor } = await acme.sessions.list({ userId: 'u_1', limit: 20 })
   * const more = await acme.sessions.list({ userId: 'u_1', limit: 20, cursor: nextCursor })
   * ```
   */
  async list(options: SessionListOptions = {}): Promise<SessionPage> {
    const { userId = null, agentId = null, limit, cursor } = parseSessionList(options)
    const scope = ['sessions', this.#executor.tenantId, userId, agentId]
    const [time = null, id = null] = cursor === undefined ? [] : decodeCursor(cursor, scope, [TIME, UUID])
    const { rows } = await sql<SessionRow & { readonly used: string }>`
      select s.*, to_char(s.updated_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as used
      from rowhouse.list_sessions(${limit + 1}, ${userId}, ${agentId}, ${time}::timestamptz, ${id}::uuid) s`.execute(
      this.#executor.db,
    )
    const page = rows.slice(0, limit)
    const last = page.at(-1)
    return {
      sessions: page.map((row) => toSession(this.#executor, row)),
      nextCursor: rows.length > limit && last ? encodeCursor(scope, [last.used, last.session_id]) : undefined,
    }
  }

  /**
   * Changes a session; what the changes don't name stays.
   *
   * SQL: `select * from rowhouse.update_session($1, $2)`
   *
   * @example
   * ```ts
   * await acme.sessions.update(sessionId, { metadata: { title: 'A refund' }, expiresInMs: 3_600_000 })
   * ```
   */
  async update(sessionId: string, changes: SessionChanges): Promise<Session> {
    const id = parseSessionId(sessionId)
    const { json, expiresInMs } = parseChanges(changes)
    return this.#change(id, json, expiresInMs)
  }

  /**
   * Marks a session as used, which begins its retention anew, and sets a new expiry where one is given.
   *
   * SQL: `select * from rowhouse.update_session($1, '{}')`
   */
  async touch(sessionId: string, options: { readonly expiresInMs?: number | undefined } = {}): Promise<Session> {
    return this.#change(parseSessionId(sessionId), '{}', parseTouch(options))
  }

  /**
   * Deletes a session with its messages.
   *
   * SQL: `select rowhouse.delete_session($1)`
   *
   * @returns Whether the tenant had it.
   */
  async delete(sessionId: string): Promise<boolean> {
    const { rows } = await sql<{ deleted: boolean }>`
      select rowhouse.delete_session(${parseSessionId(sessionId)}::uuid) as deleted`.execute(this.#executor.db)
    return rows[0]!.deleted
  }

  /**
   * Appends messages to a session, all or none, in this order and next to each other whatever others append at the
   * same time.
   *
   * Errors: `session_not_found`, `invalid_message`, `session_changed` (see {@link AppendOptions.expectedLength}).
   *
   * SQL: `select * from rowhouse.append_messages($1, $2, $3, $4, $5, $6)`
   *
   * @example
   * ```ts
   * await acme.sessions.append(sessionId, [
   *   { role: 'user', content: 'Where is my parcel?' },
   *   { role: 'assistant', content: [{ type: 'tool_call', id: 'c1', name: 'track', arguments: { parcel: 7 } }] },
   *   { role: 'tool', content: [{ type: 'tool_result', callId: 'c1', result: { state: 'in transit' } }] },
   * ])
   * ```
   */
  async append(sessionId: string, messages: readonly NewMessage[], options: AppendOptions = {}): Promise<Appended> {
    const id = parseSessionId(sessionId)
    const { roles, contents, tokenCounts, metadata } = parseMessages(messages, this.#countTokens)
    const expectedLength = parseAppend(options)
    const { rows } = await sql<{ message_id: string; place: string; token_count: number }>`
      select message_id, place, token_count from rowhouse.append_messages(${id}::uuid, ${roles}::text[],
        ${contents}::json[], ${tokenCounts}::integer[], ${metadata}::jsonb[], ${expectedLength}::bigint)`.execute(
      this.#executor.db,
    )
    return {
      ids: rows.map((row) => row.message_id),
      length: Number(rows.at(-1)!.place),
      tokenCounts: rows.map((row) => row.token_count),
    }
  }

  /**
   * Reads the messages of a session, page by page.
   *
   * SQL: `select * from rowhouse.list_messages($1, $2, $3, $4)`
   *
   * @example
   * ```ts
   * const { messages, nextCursor } = await acme.sessions.messages(sessionId, { order: 'newest first', limit: 20 })
   * ```
   */
  async messages(sessionId: string, options: MessageListOptions = {}): Promise<MessagePage> {
    const id = parseSessionId(sessionId)
    const { order, limit, cursor } = parseMessageList(options)
    return this.#page(['messages', this.#executor.tenantId, id, order], limit, cursor, (after) => {
      return sql`rowhouse.list_messages(${id}::uuid, ${limit + 1}, ${after}::uuid, ${order === 'newest first'})`
    })
  }

  /**
   * Finds the messages of a session whose text contains every word of the query, in any case and any order, newest
   * first. Reads the whole session, about 1 ms for 1,000 messages.
   *
   * SQL: `select * from rowhouse.search_messages($1, $2, $3, $4)`
   */
  async search(sessionId: string, query: string, options: MessageSearchOptions = {}): Promise<MessagePage> {
    const id = parseSessionId(sessionId)
    const { query: words, limit, cursor } = parseMessageSearch(query, options)
    return this.#page(['search', this.#executor.tenantId, id, words], limit, cursor, (after) => {
      return sql`rowhouse.search_messages(${id}::uuid, ${words}, ${limit + 1}, ${after}::uuid)`
    })
  }

  /**
   * The newest messages that fit into a context: never more tokens than `maxTokens`, or than `context.maxTokens` of the
   * tenant's settings, less the reserve for the answer; never the result of a tool call without the call.
   *
   * SQL: `select * from rowhouse.message_window($1, $2, $3)`
   *
   * @example
   * ```ts
   * const { messages } = await acme.sessions.window(sessionId, { maxTokens: 8000, reserveTokens: 1000 })
   * ```
   */
  async window(sessionId: string, options: WindowOptions = {}): Promise<MessageWindow> {
    const id = parseSessionId(sessionId)
    const { maxTokens, reserveTokens } = parseWindow(options)
    const { rows } = await sql<MessageRow>`
      select tenant_id, session_id, message_id, role, content, token_count, metadata, created_at
      from rowhouse.message_window(${id}::uuid, ${maxTokens}::bigint, ${reserveTokens}::bigint)`.execute(
      this.#executor.db,
    )
    const messages = rows.map((row) => toMessage(this.#executor, row))
    return { messages, tokenCount: messages.reduce((sum, { tokenCount }) => sum + tokenCount, 0) }
  }

  /**
   * Makes a new session that begins as a copy of this one, up to and with the message `until`, or whole. Messages keep
   * their ids; the original stays as it is.
   *
   * SQL: `select * from rowhouse.fork_session($1, $2)`
   *
   * @example
   * ```ts
   * const attempt = await acme.sessions.fork(sessionId, { until: messageId })
   * ```
   */
  async fork(sessionId: string, options: { readonly until?: string | undefined } = {}): Promise<Session> {
    const id = parseSessionId(sessionId)
    const until = options.until === undefined ? null : parseId(options.until, 'The id of the message')
    const [session] = await this.#sessions(sql`rowhouse.fork_session(${id}::uuid, ${until}::uuid)`)
    return session!
  }

  /**
   * Deletes the sessions that are over, in batches of a transaction each (inside `withTenant`, of that transaction).
   * They are out of sight already; this frees their space. Several processes may do it at once.
   *
   * SQL: `select rowhouse.sweep_sessions($1)`
   *
   * @returns How many were deleted.
   */
  async sweep({ batchSize = 100 }: { readonly batchSize?: number | undefined } = {}): Promise<number> {
    return sweepInBatches(this.#executor.db, sql`rowhouse.sweep_sessions(${batchSize})`)
  }

  /**
   * The sessions as a store of one object each, for code that was written against `get`, `set`, `create`, `delete` and
   * `list`; the object is the metadata of the session.
   *
   * @example
   * ```ts
   * const store = acme.sessions.asStore<{ history: string[] }>()
   * await store.set('conversation-7', { history: ['Hello'] })
   * ```
   */
  asStore<T extends object>(): PostgresSessionStore<T> {
    return new PostgresSessionStore<T>(this)
  }

  async #sessions(source: RawBuilder<unknown>): Promise<Session[]> {
    const { rows } = await sql<SessionRow>`select * from ${source}`.execute(this.#executor.db)
    return rows.map((row) => toSession(this.#executor, row))
  }

  async #change(id: string, json: string, expiresInMs: number | null | undefined): Promise<Session> {
    const expiry =
      expiresInMs === undefined ? sql`'{}'::jsonb` : sql`jsonb_build_object('expiresAt', ${inFuture(expiresInMs)})`
    const [session] = await this.#sessions(sql`rowhouse.update_session(${id}::uuid, ${json}::jsonb || ${expiry})`)
    return session!
  }

  /** One message more than the page shows whether there is a next one. */
  async #page(
    scope: readonly unknown[],
    limit: number,
    cursor: string | undefined,
    source: (after: string | null) => RawBuilder<unknown>,
  ): Promise<MessagePage> {
    const [after = null] = cursor === undefined ? [] : decodeCursor(cursor, scope, [UUID])
    const { rows } = await sql<MessageRow>`
      select tenant_id, session_id, message_id, role, content, token_count, metadata, created_at
      from ${source(after)}`.execute(this.#executor.db)
    const messages = rows.slice(0, limit).map((row) => toMessage(this.#executor, row))
    return {
      messages,
      nextCursor: rows.length > limit ? encodeCursor(scope, [messages.at(-1)!.id]) : undefined,
    }
  }
}

function parseSessionId(id: string): string {
  return parseId(id, 'The id of the session').toLowerCase()
}

/** By the clock of the database; null stays null. */
function inFuture(milliseconds: number | null): RawBuilder<unknown> {
  return sql`statement_timestamp() + make_interval(secs => ${milliseconds}::double precision / 1000)`
}
