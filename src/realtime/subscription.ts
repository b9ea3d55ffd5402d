import { setTimeout as sleep } from 'node:timers/promises'
import { runWithoutAmbientTenant } from '../context/current-tenant.ts'
import { isDatabaseError } from '../context/pg-internals.ts'
import { RowhouseError } from '../errors.ts'
import type { ChannelMessage } from './message.ts'

/** Called with one message after another; the next comes when what it returns has resolved. */
export type MessageHandler<T = unknown> = (message: ChannelMessage<T>) => unknown

export interface SubscriptionParts {
  readonly tenantId: string
  readonly channel: string
  readonly lastId: number
  readonly handler: MessageHandler
  readonly read: (after: number, limit: number) => Promise<ChannelMessage[]>
  readonly onEnd: (subscription: Subscription) => void
}

const BATCH = 100
const FIRST_PAUSE_MS = 100
const LONGEST_PAUSE_MS = 5000

/** Hands the messages of a channel to a function, in order, until it is closed. */
export class Subscription implements AsyncDisposable {
  readonly tenantId: string
  readonly channel: string
  /**
   * Resolves when the subscription was closed; rejects with the reason when it ended by itself: the tenant may not work
   * any more ({@link TenantSuspendedError} and the like), the function threw, or messages were swept before they could be
   * read (`messages_expired`).
   */
  readonly ended: Promise<void>
  readonly #parts: SubscriptionParts
  readonly #stop = new AbortController()
  readonly #settle: { resolve: () => void; reject: (reason: unknown) => void }
  #lastId: number
  #due = false
  #running = false

  /** @internal */
  constructor(parts: SubscriptionParts) {
    this.#parts = parts
    this.tenantId = parts.tenantId
    this.channel = parts.channel
    this.#lastId = parts.lastId
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.ended = promise
    this.#settle = { resolve, reject }
    // Who doesn't ask for the reason is not to be ended by it.
    promise.catch(() => {})
  }

  /** Id of the last message that was handled: where another subscription goes on (`after`). */
  get lastId(): number {
    return this.#lastId
  }

  /** No message is handed out any more, but for one whose handling has begun. */
  close(): void {
    this.end()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close()
    await this.ended.catch(() => {})
  }

  /** Reads what there is. @internal */
  wake(): void {
    this.#due = true
    // Whatever woke it, the handler runs as no tenant's.
    if (!this.#running && !this.#stop.signal.aborted) void runWithoutAmbientTenant(() => this.#run())
  }

  /** Ends it, for a reason or none. @internal */
  end(reason?: unknown): void {
    if (this.#stop.signal.aborted) return
    this.#stop.abort()
    this.#parts.onEnd(this)
    if (reason !== undefined) this.#settle.reject(reason)
    else if (!this.#running) this.#settle.resolve()
  }

  async #run(): Promise<void> {
    this.#running = true
    let failures = 0
    while (this.#due && !this.#stop.signal.aborted) {
      this.#due = false
      let messages: ChannelMessage[]
      try {
        messages = await this.#parts.read(this.#lastId, BATCH)
        failures = 0
      } catch (error) {
        if (!mayPass(error)) this.end(error)
        this.#due = true
        const pause = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** failures++) * (0.5 + Math.random() / 2)
        await sleep(pause, undefined, { signal: this.#stop.signal }).catch(() => {})
        continue
      }
      if (messages.length === BATCH) this.#due = true
      await this.#deliver(messages)
    }
    this.#running = false
    if (this.#stop.signal.aborted) this.#settle.resolve()
  }

  async #deliver(messages: readonly ChannelMessage[]): Promise<void> {
    for (const message of messages) {
      if (this.#stop.signal.aborted) return
      try {
        await this.#parts.handler(message)
      } catch (error) {
        this.end(error ?? new Error('The handler of the subscription failed.'))
        return
      }
      this.#lastId = message.id
    }
  }
}

/** Whether reading again can help: the connection failed or the server was busy, as opposed to a refusal. */
export function mayPass(error: unknown): boolean {
  if (error instanceof RowhouseError) return error.retryable
  return !isDatabaseError(error) || /^(08|53|55|57|40|XX)/.test(error.code ?? '')
}
