import { randomUUID } from 'node:crypto'
import * as z from 'zod'
import { BackgroundWork } from '../context/background-work.ts'
import { parseOptions } from '../context/context-options.ts'
import { createRowhouseError } from '../errors.ts'
import { toProblem } from '../http/problem.ts'
import type { Channel, ChannelMember } from '../realtime/channel.ts'
import type { ChannelMessage } from '../realtime/message.ts'
import type { Subscription } from '../realtime/subscription.ts'
import type { Rowhouse } from '../rowhouse.ts'

/** What is needed of an open WebSocket of `ws`. */
export interface LiveSocket {
  /** 1 is open. */
  readonly readyState: number
  /** Bytes that the other side was too slow to take. */
  readonly bufferedAmount: number
  on(event: 'pong' | 'close', listener: () => void): unknown
  off(event: 'pong' | 'close', listener: () => void): unknown
  send(text: string): void
  ping(): void
  close(code: number, reason?: string): void
  terminate(): void
}

export interface TenantConnectionsOptions {
  /**
   * How often every socket is pinged, in milliseconds. One that did not answer until the next time is terminated, and
   * those of a process that died are gone from the lists of the others after three times. Default 30,000.
   */
  readonly heartbeatMs?: number | undefined
  /** A socket that is so many bytes behind is terminated. Default 1,048,576. */
  readonly maxBufferedBytes?: number | undefined
}

/** An open socket of a tenant, in this process. */
export interface TenantConnection<S extends LiveSocket = LiveSocket> {
  /** Random; its id among the members of all processes. */
  readonly id: string
  readonly tenantId: string
  readonly socket: S
  readonly metadata: Readonly<Record<string, unknown>>
}

interface Entry<S extends LiveSocket> extends TenantConnection<S> {
  /** Whether what is sent to the tenant is for this socket already. */
  ready: boolean
  alive: boolean
}

/** The sockets of one tenant. */
interface Room<S extends LiveSocket> {
  readonly channel: Channel
  readonly entries: Map<string, Entry<S>>
  readonly subscription: Promise<Subscription>
}

/** The channel of a tenant that its sockets hear. */
const CHANNEL = 'rowhouse:sockets'
const OPEN = 1
const GOING_AWAY = 1001

const connectionsOptions = z.strictObject({
  heartbeatMs: z.int().min(10).max(3_600_000).optional(),
  maxBufferedBytes: z.int().min(0).optional(),
})

/**
 * The open WebSockets of tenants: those of this process, and through the database those of all others.
 *
 * What is sent to a tenant reaches its sockets on every process, in one order, and no socket of another tenant. Sockets
 * of a tenant that is suspended or erased are closed with 4000 + the HTTP status.
 *
 * @example
 * ```ts
 * import { TenantConnections } from 'rowhouse/ws'
 *
 * const connections = new TenantConnections(rowhouse)
 * declare const socket: import('rowhouse/ws').LiveSocket                    // of a WebSocketServer of `ws`
 * await connections.add('acme', socket, { userId: 'u_1' })
 * await connections.sendToTenant('acme', { type: 'invoice-paid', number: 'A-1' })
 * const online = await connections.members('acme')                          // on all processes
 * ```
 */
export class TenantConnections<S extends LiveSocket = LiveSocket> implements AsyncDisposable {
  readonly #rowhouse: Pick<Rowhouse, 'tenant'>
  readonly #heartbeatMs: number
  readonly #maxBufferedBytes: number
  readonly #rooms = new Map<string, Room<S>>()
  /** What nobody waits for but `close`. */
  readonly #background = new BackgroundWork()
  #timer: NodeJS.Timeout | undefined
  #closed = false

  constructor(rowhouse: Pick<Rowhouse, 'tenant'>, options: TenantConnectionsOptions = {}) {
    const { heartbeatMs = 30_000, maxBufferedBytes = 1_048_576 } = parseOptions(connectionsOptions, options)
    this.#rowhouse = rowhouse
    this.#heartbeatMs = heartbeatMs
    this.#maxBufferedBytes = maxBufferedBytes
  }

  /**
   * Takes an open socket of a tenant; it is let go when it closes. What is sent to the tenant from the time on when the
   * promise resolves reaches it.
   *
   * @param metadata - What the lists of members tell about it: a JSON object, of up to 65,536 bytes.
   *
   * SQL: `select * from rowhouse.join_channel('rowhouse:sockets', $1, $2, $3)`
   */
  async add(
    tenantId: string,
    socket: S,
    metadata: Readonly<Record<string, unknown>> = {},
  ): Promise<TenantConnection<S>> {
    if (this.#closed) throw createRowhouseError('invalid_argument', 'The connections were closed.')
    const room = this.#rooms.get(tenantId) ?? this.#open(tenantId)
    const entry: Entry<S> = { id: randomUUID(), tenantId, socket, metadata, ready: false, alive: true }
    room.entries.set(entry.id, entry)
    this.#timer ??= setInterval(() => this.#beat(), this.#heartbeatMs).unref()
    socket.on('pong', () => {
      entry.alive = true
    })
    const closed = () => this.#remove(room, entry)
    socket.on('close', closed)
    try {
      await room.subscription
      await this.#join(room, entry)
    } catch (error) {
      socket.off('close', closed)
      this.#remove(room, entry)
      throw error
    }
    // Closed meanwhile: its removal came too early to take it out of the list of members.
    if (!room.entries.has(entry.id)) this.#background.add(room.channel.leave(entry.id))
    else if (socket.readyState !== OPEN) this.#remove(room, entry)
    else entry.ready = true
    return entry
  }

  /** The sockets of a tenant in this process. */
  getByTenant(tenantId: string): TenantConnection<S>[] {
    return [...(this.#rooms.get(tenantId)?.entries.values() ?? [])].filter(({ ready }) => ready)
  }

  /**
   * Sends to all sockets of a tenant, in whichever process: text as it is, anything else as JSON. Inside `withTenant` of
   * the tenant when that commits.
   *
   * SQL: `select * from rowhouse.publish_message('rowhouse:sockets', $1)`
   */
  async sendToTenant(tenantId: string, data: unknown): Promise<void> {
    const text = typeof data === 'string' ? data : JSON.stringify(data)
    if (text === undefined) throw createRowhouseError('invalid_channel', 'What is sent is text or a JSON value.')
    await this.#rowhouse.tenant(tenantId).channel(CHANNEL).publish({ data: text })
  }

  /**
   * The sockets of a tenant on all processes, those of this one included.
   *
   * SQL: `select * from rowhouse.list_members('rowhouse:sockets', $1, $2)`
   */
  async members(tenantId: string): Promise<ChannelMember[]> {
    return this.#rowhouse.tenant(tenantId).channel(CHANNEL).members({ limit: 10_000 })
  }

  /** Closes all sockets of this process, and takes no more. */
  async close(): Promise<void> {
    this.#closed = true
    clearInterval(this.#timer)
    const rooms = [...this.#rooms.values()]
    this.#rooms.clear()
    for (const room of rooms) {
      const entries = [...room.entries.values()]
      room.entries.clear()
      for (const { socket } of entries) socket.close(GOING_AWAY, 'The server goes away.')
      this.#background.add(room.subscription.then((subscription) => subscription.close()))
      // They end by themselves when the database can't be reached.
      this.#background.add(room.channel.leave(entries.map(({ id }) => id)))
    }
    await this.#background.settled()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #open(tenantId: string): Room<S> {
    const channel = this.#rowhouse.tenant(tenantId).channel(CHANNEL)
    const room: Room<S> = {
      channel,
      entries: new Map(),
      subscription: channel.subscribe((message) => this.#deliver(room, message)),
    }
    this.#rooms.set(tenantId, room)
    room.subscription.then(
      (subscription) => subscription.ended.catch((error) => this.#end(tenantId, room, error)),
      () => {},
    )
    return room
  }

  #deliver(room: Room<S>, { payload }: ChannelMessage): void {
    const { data } = (payload ?? {}) as { data?: unknown }
    // The tenant's own SQL may publish anything here.
    if (typeof data !== 'string') return
    for (const { socket, ready } of room.entries.values()) {
      if (!ready || socket.readyState !== OPEN) continue
      if (socket.bufferedAmount > this.#maxBufferedBytes) socket.terminate()
      else socket.send(data)
    }
  }

  #remove(room: Room<S>, entry: Entry<S>): void {
    entry.ready = false
    if (!room.entries.delete(entry.id)) return
    this.#background.add(room.channel.leave(entry.id))
    if (room.entries.size > 0 || this.#rooms.get(entry.tenantId) !== room) return
    this.#rooms.delete(entry.tenantId)
    this.#background.add(room.subscription.then((subscription) => subscription.close()))
    if (this.#rooms.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  /** The tenant may not work any more, or its messages can't be read. */
  #end(tenantId: string, room: Room<S>, error: unknown): void {
    if (this.#rooms.get(tenantId) === room) this.#rooms.delete(tenantId)
    const { problem } = toProblem(error)
    for (const { socket } of room.entries.values()) socket.close(4000 + problem.status, problem.title)
  }

  #join(room: Room<S>, { id, metadata }: Entry<S>): Promise<ChannelMember> {
    return room.channel.join(id, { metadata, ttlMs: 3 * this.#heartbeatMs })
  }

  #beat(): void {
    for (const room of this.#rooms.values()) {
      for (const entry of room.entries.values()) {
        if (!entry.ready || entry.socket.readyState !== OPEN) continue
        if (!entry.alive) entry.socket.terminate()
        else {
          entry.alive = false
          entry.socket.ping()
        }
      }
      // What fails is tried again with the next beat, before the members are gone.
      this.#background.add(this.#renew(room))
    }
  }

  async #renew(room: Room<S>): Promise<void> {
    const entries = [...room.entries.values()].filter(({ ready }) => ready)
    if (entries.length === 0) return
    const ids = entries.map(({ id }) => id)
    const present = new Set(await room.channel.renew(ids, { ttlMs: 3 * this.#heartbeatMs }))
    for (const entry of entries) if (!present.has(entry.id) && entry.ready) await this.#join(room, entry)
  }
}
