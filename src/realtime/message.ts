import { type RawBuilder, sql } from 'kysely'
import { assertOwnRow } from '../context/own-row.ts'

/** Runs a statement as the tenant. */
export type RunStatement = (statement: RawBuilder<any>) => Promise<{ readonly rows: readonly any[] }>

/** A message of a channel. */
export interface ChannelMessage<T = unknown> {
  /** Counts up by one in each channel: whoever saw it before can drop a repeat. */
  readonly id: number
  readonly channel: string
  /** What was published, as JSON. */
  readonly payload: T
  /** The user of the context that published it, if any. */
  readonly userId: string | null
  readonly publishedAt: Date
}

interface MessageRow {
  readonly tenant_id: string
  readonly message_id: string | number
  readonly payload: unknown
  readonly user_id: string | null
  readonly published_at: Date | string
}

/** Messages of a channel after one, in order. */
export async function readMessages(
  run: RunStatement,
  tenantId: string,
  channel: string,
  { after, limit }: { readonly after: number; readonly limit: number },
): Promise<ChannelMessage[]> {
  const { rows } = await run(sql`
    select tenant_id, message_id, payload, user_id, published_at
    from rowhouse.read_messages(${channel}, ${after}::bigint, ${limit})`)
  return rows.map((row: MessageRow) => {
    assertOwnRow({ tenantId }, row, 'rowhouse.channel_messages')
    return {
      id: Number(row.message_id),
      channel,
      payload: row.payload,
      userId: row.user_id,
      publishedAt: new Date(row.published_at),
    }
  })
}

/** What is needed of a channel to hear its messages. */
export interface OpenChannel {
  readonly channel: string
  /** What notifications about it say. */
  readonly wakeKey: string
  readonly lastMessageId: number
}

interface ChannelRow {
  readonly tenant_id: string
  readonly channel: string
  readonly wake_key: string
  readonly last_message_id: string | number
}

export async function openChannels(
  run: RunStatement,
  tenantId: string,
  channels: readonly string[],
): Promise<OpenChannel[]> {
  const { rows } = await run(sql`
    select tenant_id, channel, wake_key, last_message_id from rowhouse.open_channels(${channels}::text[])`)
  return rows.map((row: ChannelRow) => {
    assertOwnRow({ tenantId }, row, 'rowhouse.channels')
    return { channel: row.channel, wakeKey: row.wake_key, lastMessageId: Number(row.last_message_id) }
  })
}
