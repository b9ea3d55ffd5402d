import { once } from 'node:events'
import { type AddressInfo, connect as connectSocket, createServer, type Server, type Socket } from 'node:net'
import { withParts } from './connection.ts'

/** Delays in milliseconds, fractions allowed. */
export interface Delay {
  readonly toServer?: number
  readonly toClient?: number
}

/** What passed since the last `resetCounters()`. */
export interface Counters {
  /**
   * Bursts from client to server: a new one begins when the client sends something after the server has. With a delay
   * this is the number of round trips the client waited for; without, an answer may overtake a second burst that was
   * sent without waiting for it.
   */
  flights: number
  bytesToServer: number
  bytesToClient: number
}

/** Where a proxy leads: a connection string, or a plain TCP address. */
export type Target = string | { readonly host: string; readonly port: number }

/** Starts a proxy on a free local port. `await using` closes it. With `record`, what the server sends is kept. */
export async function startProxy(target: Target, { record = false }: { record?: boolean } = {}): Promise<TcpProxy> {
  const server = createServer({ allowHalfOpen: true, noDelay: true })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return new TcpProxy(server, target, record)
}

/** A TCP proxy that can be slow, break its connections, or go silent. */
export class TcpProxy {
  readonly host = '127.0.0.1'
  readonly port: number
  readonly #server: Server
  readonly #target: Target
  readonly #record: boolean
  readonly #links = new Set<Link>()
  readonly #received: Buffer[] = []
  #delay: Required<Delay> = { toServer: 0, toClient: 0 }
  #mode: 'open' | 'paused' | 'half-open' = 'open'
  #counters: Counters = { flights: 0, bytesToServer: 0, bytesToClient: 0 }

  constructor(server: Server, target: Target, record: boolean) {
    this.#server = server
    this.#target = target
    this.#record = record
    this.port = (server.address() as AddressInfo).port
    server.on('connection', (client) => this.#accept(client))
  }

  /** The connection string it was started with, leading through the proxy. */
  get url(): string {
    if (typeof this.#target !== 'string') throw new Error('the proxy was started with an address')
    return withParts(this.#target, { host: this.host, port: this.port })
  }

  /** Bursts and bytes since the start or the last `resetCounters()`. */
  get counters(): Readonly<Counters> {
    return { ...this.#counters }
  }

  /** Number of clients that are connected. */
  get connections(): number {
    return this.#links.size
  }

  /** Everything the server sent since the start or the last `resetCounters()`, of a proxy that records. */
  get received(): Buffer {
    return Buffer.concat(this.#received)
  }

  /** Counts anew; call it once connected, to leave start-up and authentication out. */
  resetCounters(): void {
    this.#counters = { flights: 0, bytesToServer: 0, bytesToClient: 0 }
    this.#received.length = 0
    for (const link of this.#links) link.serverSpoke = true
  }

  /** From now on every byte takes this long. A number is for each direction. */
  delay(delay: number | Delay): void {
    const { toServer = 0, toClient = 0 } = typeof delay === 'number' ? { toServer: delay, toClient: delay } : delay
    this.#delay = { toServer, toClient }
  }

  /** Breaks all connections with a reset (RST) on both sides; what was under way is lost. New ones work. */
  cut(): void {
    for (const link of this.#links) link.reset()
  }

  /** Holds everything back until `resume()`, which delivers it. New connections are held back too. */
  pause(): void {
    this.#mode = 'paused'
  }

  /**
   * Loses everything in both directions, while neither side learns of it. New connections are accepted and get no
   * answer. Connections that lost something stay silent after `resume()`; new ones work.
   */
  halfOpen(): void {
    this.#mode = 'half-open'
    for (const link of this.#links) link.silence()
  }

  /** Ends `pause()` and `halfOpen()`. */
  resume(): void {
    this.#mode = 'open'
    for (const link of this.#links) link.deliver()
  }

  /** Breaks all connections and gives up the port. */
  async close(): Promise<void> {
    this.cut()
    if (!this.#server.listening) return
    this.#server.close()
    await once(this.#server, 'close')
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #accept(client: Socket): void {
    const { host, port } = typeof this.#target === 'string' ? addressOf(this.#target) : this.#target
    const upstream = connectSocket({ host, port, allowHalfOpen: true, noDelay: true })
    const link = new Link(client, upstream, {
      delay: () => this.#delay,
      isPaused: () => this.#mode === 'paused',
      onClientData: (bytes, isNewFlight) => {
        this.#counters.bytesToServer += bytes
        if (isNewFlight) this.#counters.flights++
      },
      onServerData: (chunk) => {
        this.#counters.bytesToClient += chunk.length
        if (this.#record) this.#received.push(chunk)
      },
      onClose: () => this.#links.delete(link),
    })
    this.#links.add(link)
    if (this.#mode === 'half-open') link.silence()
  }
}

interface LinkEvents {
  delay(): Required<Delay>
  isPaused(): boolean
  onClientData(bytes: number, isNewFlight: boolean): void
  onServerData(chunk: Buffer): void
  onClose(): void
}

/** One client's connection and ours to the server. */
class Link {
  /** The next bytes of the client begin a flight. */
  serverSpoke = true
  readonly #client: Socket
  readonly #upstream: Socket
  readonly #lanes: readonly Lane[]
  #silent = false

  constructor(client: Socket, upstream: Socket, events: LinkEvents) {
    this.#client = client
    this.#upstream = upstream
    const toServer = new Lane(upstream, () => events.delay().toServer, events.isPaused)
    const toClient = new Lane(client, () => events.delay().toClient, events.isPaused)
    this.#lanes = [toServer, toClient]
    client.on('data', (chunk: Buffer) => {
      events.onClientData(chunk.length, this.serverSpoke)
      this.serverSpoke = false
      toServer.push(chunk)
    })
    upstream.on('data', (chunk: Buffer) => {
      if (!this.#silent) events.onServerData(chunk)
      this.serverSpoke = true
      toClient.push(chunk)
    })
    client.on('end', () => toServer.push('end'))
    upstream.on('end', () => toClient.push('end'))
    for (const socket of [client, upstream]) {
      // One side's reset is told to the other as a reset.
      socket.on('error', () => {
        if (!this.#silent) this.reset()
      })
      socket.on('close', () => {
        if (client.destroyed && upstream.destroyed) events.onClose()
      })
    }
  }

  reset(): void {
    this.silence()
    for (const socket of [this.#client, this.#upstream]) if (!socket.destroyed) socket.resetAndDestroy()
  }

  silence(): void {
    this.#silent = true
    for (const lane of this.#lanes) lane.drop()
  }

  deliver(): void {
    for (const lane of this.#lanes) lane.deliver()
  }
}

/** One direction of a connection: what waits for its time. */
class Lane {
  readonly #to: Socket
  readonly #delay: () => number
  readonly #isPaused: () => boolean
  readonly #queue: { item: Buffer | 'end'; due: number }[] = []
  #scheduled = false
  #dropping = false

  constructor(to: Socket, delay: () => number, isPaused: () => boolean) {
    this.#to = to
    this.#delay = delay
    this.#isPaused = isPaused
  }

  push(item: Buffer | 'end'): void {
    if (this.#dropping) return
    this.#queue.push({ item, due: performance.now() + this.#delay() })
    if (!this.#scheduled) this.deliver()
  }

  drop(): void {
    this.#dropping = true
    this.#queue.length = 0
  }

  /** Writes what is due, and comes back for the rest. */
  deliver(): void {
    this.#scheduled = false
    while (this.#queue.length > 0 && !this.#isPaused()) {
      const { item, due } = this.#queue[0]!
      const wait = due - performance.now()
      if (wait > 0) {
        this.#scheduled = true
        // Timers come up to 2 ms late, which would matter for a delay of 1 ms.
        if (wait > 2) setTimeout(() => this.deliver(), wait - 2)
        else setImmediate(() => this.deliver())
        return
      }
      this.#queue.shift()
      if (this.#to.destroyed) continue
      if (item === 'end') this.#to.end()
      else this.#to.write(item)
    }
  }
}

function addressOf(url: string): { host: string; port: number } {
  const { hostname, port } = new URL(url)
  return { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port || 5432) }
}
