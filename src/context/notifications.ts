import pg from 'pg'
import type { ConnectionSource } from './connection-source.ts'

/** Told what is announced on a channel. */
export interface NotificationSubscriber {
  notified(payload: string): void
  /** Notifications may have been missed since, and will be until `listening`. */
  lost?(): void
  /** From now on notifications are heard. */
  listening?(): void
}

/** Until the next attempt to connect again. */
const RETRY_MS = 1000

/** Listens to channels, all of them on one connection outside of the pool, while anybody wants to know. */
export class Notifications {
  readonly #source: ConnectionSource
  readonly #channels = new Map<string, Set<NotificationSubscriber>>()
  #client: pg.Client | undefined
  #listening = false
  #retry: NodeJS.Timeout | undefined
  #closed = false

  constructor(source: ConnectionSource) {
    this.#source = source
  }

  /** Starts to tell the subscriber; returns what stops it. `channel` is a name of ours, not one that was given. */
  subscribe(channel: string, subscriber: NotificationSubscriber): () => void {
    if (this.#closed) return () => {}
    const subscribers = this.#channels.get(channel)
    if (subscribers !== undefined) {
      subscribers.add(subscriber)
      if (this.#listening) subscriber.listening?.()
    } else {
      this.#channels.set(channel, new Set([subscriber]))
      const client = this.#client
      if (this.#listening && client !== undefined) void this.#listen(client, channel)
      else if (client === undefined && this.#retry === undefined) void this.#connect()
    }
    return () => this.#unsubscribe(channel, subscriber)
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#channels.clear()
    await this.#disconnect()
  }

  #unsubscribe(channel: string, subscriber: NotificationSubscriber): void {
    const subscribers = this.#channels.get(channel)
    if (subscribers?.delete(subscriber) !== true || subscribers.size > 0) return
    this.#channels.delete(channel)
    if (this.#channels.size === 0) void this.#disconnect()
    else if (this.#listening) this.#client?.query(`unlisten ${channel}`).catch(() => {})
  }

  async #connect(): Promise<void> {
    const client = new pg.Client({ ...this.#source.clientOptions, application_name: 'rowhouse notifications' })
    this.#client = client
    client.on('error', () => {})
    client.on('end', () => this.#lose(client))
    client.on('notification', ({ channel, payload = '' }) => {
      for (const subscriber of this.#channels.get(channel) ?? []) subscriber.notified(payload)
    })
    try {
      await client.connect()
      // Whoever subscribes meanwhile is heard too: channels are looked at again after each of them.
      const heard = new Set<string>()
      for (let next = this.#next(heard); next !== undefined; next = this.#next(heard)) {
        await client.query(`listen ${next}`)
        heard.add(next)
      }
      if (this.#client !== client) return
      this.#listening = true
      for (const subscribers of this.#channels.values()) {
        for (const subscriber of subscribers) subscriber.listening?.()
      }
    } catch {
      await client.end().catch(() => {})
      this.#lose(client)
    }
  }

  #next(heard: ReadonlySet<string>): string | undefined {
    for (const channel of this.#channels.keys()) if (!heard.has(channel)) return channel
    return undefined
  }

  /** One more channel on a connection that listens already. */
  async #listen(client: pg.Client, channel: string): Promise<void> {
    try {
      await client.query(`listen ${channel}`)
      if (this.#client !== client) return
      for (const subscriber of this.#channels.get(channel) ?? []) subscriber.listening?.()
    } catch {
      await client.end().catch(() => {})
      this.#lose(client)
    }
  }

  #lose(client: pg.Client): void {
    if (this.#client !== client) return
    this.#client = undefined
    if (this.#listening) {
      this.#listening = false
      for (const subscribers of this.#channels.values()) {
        for (const subscriber of subscribers) subscriber.lost?.()
      }
    }
    if (this.#closed || this.#channels.size === 0) return
    this.#retry = setTimeout(() => {
      this.#retry = undefined
      void this.#connect()
    }, RETRY_MS).unref()
  }

  async #disconnect(): Promise<void> {
    clearTimeout(this.#retry)
    this.#retry = undefined
    const client = this.#client
    this.#client = undefined
    this.#listening = false
    await client?.end().catch(() => {})
  }
}
