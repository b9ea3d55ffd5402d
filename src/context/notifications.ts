import { createHash } from 'node:crypto'
import pg from 'pg'
import type { ConnectionSource } from './connection-source.ts'

/** Told what is announced on a channel. */
export interface NotificationSubscriber {
  /** Anybody may have sent it, with any payload. */
  notified(payload: string): void
  /** Notifications may have been missed since, and will be until `listening`. */
  lost?(): void
  /** From now on notifications are heard. */
  listening?(): void
}

/** Until the next attempt to connect again. */
const RETRY_MS = 1000
/** How often the connection is asked whether it is still there, and how long it may take to answer. */
const PING_MS = 15_000
const CONNECT_TIMEOUT_MS = 10_000
/** How long a server may take to say goodbye. */
const END_TIMEOUT_MS = 1000

/** One listening connection, outside the pool, while anybody listens; opened again when it is lost. */
export class Notifications {
  readonly #source: ConnectionSource
  readonly #pingMs: number
  readonly #subscribers = new Map<string, Set<NotificationSubscriber>>()
  readonly #heard = new Set<string>()
  #client: pg.Client | undefined
  #connected = false
  #retry: NodeJS.Timeout | undefined
  #ping: NodeJS.Timeout | undefined
  #closed = false

  constructor(source: ConnectionSource, { pingMs = PING_MS }: { readonly pingMs?: number | undefined } = {}) {
    this.#source = source
    this.#pingMs = pingMs
  }

  /** Starts to tell the subscriber; returns what stops it. `name` is one of ours, not one that was given. */
  subscribe(name: string, subscriber: NotificationSubscriber): () => void {
    if (this.#closed) return () => {}
    const subscribers = this.#subscribers.get(name) ?? new Set()
    this.#subscribers.set(name, subscribers.add(subscriber))
    if (this.#heard.has(name)) subscriber.listening?.()
    else if (this.#connected) void this.#hear(this.#client!, [name]).catch(() => this.#drop(this.#client))
    else if (this.#client === undefined && this.#retry === undefined) void this.#connect()
    return () => {
      subscribers.delete(subscriber)
      if (this.#closed || subscribers.size > 0 || this.#subscribers.get(name) !== subscribers) return
      this.#subscribers.delete(name)
      this.#heard.delete(name)
      if (this.#subscribers.size === 0) void this.#disconnect()
      else if (this.#connected) void this.#client?.query(`unlisten ${name}`).catch(() => {})
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#subscribers.clear()
    await this.#disconnect()
  }

  async #connect(): Promise<void> {
    const { connectionTimeoutMillis, ...options } = this.#source.clientOptions
    const client = new pg.Client({
      ...options,
      connectionTimeoutMillis: connectionTimeoutMillis || CONNECT_TIMEOUT_MS,
      application_name: 'rowhouse notifications',
    })
    this.#client = client
    client.on('error', () => this.#drop(client))
    client.on('end', () => this.#lose(client))
    client.on('notification', ({ channel, payload = '' }) => {
      for (const subscriber of this.#subscribers.get(channel) ?? []) subscriber.notified(payload)
    })
    try {
      await client.connect()
      if (this.#client !== client) return
      this.#connected = true
      await this.#hear(client, [...this.#subscribers.keys()])
      if (this.#client === client) this.#schedulePing(client)
    } catch {
      this.#drop(client)
    }
  }

  async #hear(client: pg.Client, names: readonly string[]): Promise<void> {
    for (const name of names) {
      await client.query(`listen ${name}`)
      if (this.#client !== client) return
      // Nobody may be left, or others may have asked for the same meanwhile.
      const subscribers = this.#subscribers.get(name)
      if (subscribers === undefined || this.#heard.has(name)) continue
      this.#heard.add(name)
      for (const subscriber of subscribers) subscriber.listening?.()
    }
  }

  /** A connection that the network forgot reports nothing by itself. */
  #schedulePing(client: pg.Client): void {
    this.#ping = setTimeout(() => {
      this.#ping = setTimeout(() => this.#drop(client), this.#pingMs).unref()
      client.query('select 1').then(
        () => {
          clearTimeout(this.#ping)
          if (this.#client === client) this.#schedulePing(client)
        },
        () => this.#drop(client),
      )
    }, this.#pingMs).unref()
  }

  /** Gives a connection up that is of no use any more, without waiting for the server. */
  #drop(client: pg.Client | undefined): void {
    if (client === undefined) return
    destroy(client)
    this.#lose(client)
  }

  #lose(client: pg.Client): void {
    if (this.#client !== client) return
    this.#reset()
    if (this.#closed || this.#subscribers.size === 0) return
    this.#retry = setTimeout(() => {
      this.#retry = undefined
      void this.#connect()
    }, RETRY_MS)
  }

  #reset(): void {
    clearTimeout(this.#ping)
    this.#client = undefined
    this.#connected = false
    const lost = [...this.#heard]
    this.#heard.clear()
    for (const name of lost) for (const subscriber of this.#subscribers.get(name) ?? []) subscriber.lost?.()
  }

  async #disconnect(): Promise<void> {
    clearTimeout(this.#retry)
    this.#retry = undefined
    const client = this.#client
    this.#reset()
    if (client === undefined) return
    // One that the network forgot would be waited for until the system gives it up.
    const timer = setTimeout(() => destroy(client), END_TIMEOUT_MS)
    await client.end().catch(() => {})
    clearTimeout(timer)
  }
}

function destroy(client: pg.Client): void {
  ;(client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy()
}

/** What the database announces of a tenant, or of a ticket of a queue: whoever listens learns no id from it. */
export function announcementOf(id: string): string {
  return createHash('sha256').update(id).digest('hex').slice(0, 32)
}
