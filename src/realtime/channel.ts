import { sql } from 'kysely'
import { assertOwnRow } from '../context/own-row.ts'
import type { TenantExecutor } from '../context/tenant-executor.ts'
import { createRowhouseError } from '../errors.ts'
import type { ChannelHub } from './channel-hub.ts'
import { type ChannelMessage, readMessages } from './message.ts'
import {
  parseChannelName,
  parseJoin,
  parseMemberId,
  parseMemberIds,
  parseMemberList,
  parsePayload,
  parseRead,
  parseRenewal,
  parseSubscription,
} from './parse-channel.ts'
import type { MessageHandler, Subscription } from './subscription.ts'

/** What `channel.subscribe` takes. */
export interface SubscribeOptions {
  /** Id of the last message that was seen; 0: from the oldest that is kept on. Default: what is published from now on. */
  readonly after?: number | undefined
  /** Closes the subscription. */
  readonly signal?: AbortSignal | undefined
}

/** What `channel.read` takes. */
export interface ReadMessagesOptions {
  /** Only messages after the one with this id. Default 0: from the oldest that is kept on. */
  readonly after?: number | undefined
  /** 1 to 1000. Default 100. */
  readonly limit?: number | undefined
}

/** What `channel.join` takes. */
export interface JoinOptions {
  /** What others are to know of the member: a JSON object of up to 65,536 bytes. */
  readonly metadata?: Readonly<Record<string, unknown>> | undefined
  /** After how long it is gone unless it is renewed: up to a day. Default 60,000. */
  readonly ttlMs?: number | undefined
}

/** Who is in a channel. */
export interface ChannelMember {
  readonly id: string
  readonly metadata: Readonly<Record<string, unknown>>
  /** Since when, without a break. */
  readonly joinedAt: Date
  /** When it is gone unless it is renewed, by the clock of the database. */
  readonly expiresAt: Date
}

/**
 * A channel of a tenant: messages between its processes and users, and who is there.
 *
 * Messages are rows. They arrive in the order of their commits, each at least once, also when connections were lost
 * meanwhile, and stay readable for as long as `retentionDays.channels` in the settings of the tenant says, 7 days by
 * default. Another tenant's channel of the same name is another channel. Bad input fails with `invalid_channel`.
 */
export class Channel {
  readonly name: string
  readonly #executor: TenantExecutor
  readonly #hub: () => ChannelHub | undefined

  /** @internal */
  constructor(executor: TenantExecutor, name: string, hub: () => ChannelHub | undefined) {
    this.#executor = executor
    this.name = parseChannelName(name)
    this.#hub = hub
  }

  /**
   * Publishes a JSON value of up to 262,144 bytes. Inside `withTenant` nobody sees it before the commit, and other
   * publishers of the channel wait for that: publish last.
   *
   * SQL: `select * from rowhouse.publish_message($1, $2)`
   *
   * @example
   * ```ts
   * await rowhouse.withTenant('acme', async (db, tenant) => {
   *   await db.updateTable('invoices').set({ paid: true }).where('number', '=', 'A-1').execute()
   *   await tenant.channel('invoices').publish({ type: 'paid', number: 'A-1' })
   * })
   * ```
   */
  async publish(payload: unknown): Promise<{ readonly id: number; readonly publishedAt: Date }> {
    const { rows } = await sql<{ message_id: string; published_at: Date | string }>`
      select message_id, published_at
      from rowhouse.publish_message(${this.name}, ${parsePayload(payload)}::jsonb)`.execute(this.#executor.db)
    const { message_id, published_at } = rows[0]!
    return { id: Number(message_id), publishedAt: new Date(published_at) }
  }

  /**
   * Calls `handler` with each message, one after another, from the time on when the promise resolves. Subscriptions of a
   * process share one listening connection; messages are read through the pool. Without that connection (behind a pooler
   * in transaction mode, say) they arrive late, when the subscription looks by itself, but they arrive.
   *
   * A handler that throws ends the subscription: `ended` rejects, and `lastId` tells where to go on.
   *
   * Errors: what `withTenant` fails with; `invalid_channel`; `messages_expired` when messages after `after` were swept.
   *
   * SQL: `listen rowhouse_channels`, `select * from rowhouse.open_channels($1)`, `rowhouse.read_messages($1, $2, $3)`
   *
   * @example
   * ```ts
   * const subscription = await acme.channel('room-1').subscribe(
   *   async (message) => logger.info({ id: message.id, payload: message.payload }, 'received'),
   *   { after: 0, signal },
   * )
   * await subscription.ended
   * ```
   */
  async subscribe<T = unknown>(handler: MessageHandler<T>, options: SubscribeOptions = {}): Promise<Subscription> {
    const { after, signal } = parseSubscription(handler, options)
    const hub = this.#hub()
    if (hub === undefined) {
      throw createRowhouseError('invalid_argument', 'A subscription outlives the transaction that it is made in.', {
        hint: 'Subscribe outside of withTenant: rowhouse.tenant(id).channel(name).subscribe(handler).',
      })
    }
    signal?.throwIfAborted()
    const subscription = await hub.subscribe(this.#executor.tenantId, this.name, handler as MessageHandler, after)
    const close = () => subscription.close()
    signal?.addEventListener('abort', close, { once: true })
    if (signal?.aborted) close()
    subscription.ended.catch(() => {}).finally(() => signal?.removeEventListener('abort', close))
    return subscription
  }

  /**
   * Reads messages that are kept, in order.
   *
   * Errors: `invalid_channel`; `messages_expired` when messages after `after` were swept.
   *
   * SQL: `select * from rowhouse.read_messages($1, $2, $3)`
   */
  async read(options: ReadMessagesOptions = {}): Promise<ChannelMessage[]> {
    const { db, tenantId } = this.#executor
    return readMessages((statement) => statement.execute(db), tenantId, this.name, parseRead(options))
  }

  /**
   * Puts a member into the channel until it leaves or was not renewed in time; joining again renews it and replaces its
   * metadata.
   *
   * SQL: `select * from rowhouse.join_channel($1, $2, $3, $4)`
   *
   * @example
   * ```ts
   * const room = acme.channel('room-1')
   * await room.join('u_1', { metadata: { name: 'Ada' }, ttlMs: 30_000 })
   * const [present] = await room.renew('u_1', { ttlMs: 30_000 })
   * const members = await room.members()
   * ```
   */
  async join(memberId: string, options: JoinOptions = {}): Promise<ChannelMember> {
    const id = parseMemberId(memberId)
    const { metadata, ttlMs } = parseJoin(options)
    const { rows } = await sql<{ joined_at: Date | string; expires_at: Date | string }>`
      select joined_at, expires_at
      from rowhouse.join_channel(${this.name}, ${id}, ${metadata}::jsonb,
        make_interval(secs => ${ttlMs}::double precision / 1000))`.execute(this.#executor.db)
    const { joined_at, expires_at } = rows[0]!
    return { id, metadata: JSON.parse(metadata), joinedAt: new Date(joined_at), expiresAt: new Date(expires_at) }
  }

  /**
   * Lets members stay for `ttlMs` from now on.
   *
   * SQL: `select rowhouse.renew_members($1, $2, $3)`
   *
   * @returns The ids of those that were still there; the others have to join again.
   */
  async renew(
    memberIds: string | readonly string[],
    options: { readonly ttlMs?: number | undefined } = {},
  ): Promise<string[]> {
    const { rows } = await sql<{ present: string[] }>`
      select rowhouse.renew_members(${this.name}, ${parseMemberIds(memberIds)}::text[],
        make_interval(secs => ${parseRenewal(options)}::double precision / 1000)) as present`.execute(this.#executor.db)
    return rows[0]!.present
  }

  /**
   * Takes members out of the channel.
   *
   * SQL: `select rowhouse.leave_channel($1, $2)`
   *
   * @returns How many of them were there.
   */
  async leave(memberIds: string | readonly string[]): Promise<number> {
    const { rows } = await sql<{ count: string }>`
      select rowhouse.leave_channel(${this.name}, ${parseMemberIds(memberIds)}::text[]) as count`.execute(
      this.#executor.db,
    )
    return Number(rows[0]!.count)
  }

  /**
   * Who is in the channel, in the order of the ids.
   *
   * SQL: `select * from rowhouse.list_members($1, $2, $3)`
   *
   * @param options - `limit`: 1 to 10,000, by default 1000; `after`: the last id of the page before.
   */
  async members(
    options: { readonly limit?: number | undefined; readonly after?: string | undefined } = {},
  ): Promise<ChannelMember[]> {
    const { limit, after = null } = parseMemberList(options)
    const { rows } = await sql<MemberRow>`
      select tenant_id, member_id, metadata, joined_at, expires_at
      from rowhouse.list_members(${this.name}, ${limit}, ${after}::text)`.execute(this.#executor.db)
    return rows.map((row) => {
      assertOwnRow(this.#executor, row, 'rowhouse.channel_members')
      return {
        id: row.member_id,
        metadata: row.metadata,
        joinedAt: new Date(row.joined_at),
        expiresAt: new Date(row.expires_at),
      }
    })
  }
}

interface MemberRow {
  readonly tenant_id: string
  readonly member_id: string
  readonly metadata: Record<string, unknown>
  readonly joined_at: Date | string
  readonly expires_at: Date | string
}
