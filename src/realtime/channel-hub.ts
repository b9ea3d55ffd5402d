import type { Kysely } from 'kysely'
import { runWithoutAmbientTenant } from '../context/current-tenant.ts'
import type { Notifications } from '../context/notifications.ts'
import { watchTenantChanges } from '../context/tenant-changes.ts'
import { executeAbortable } from '../context/tenant-query.ts'
import { createLimiter } from './limiter.ts'
import { type OpenChannel, openChannels, type RunStatement, readMessages } from './message.ts'
import { type MessageHandler, mayPass, Subscription } from './subscription.ts'

export interface ChannelHubParts {
  readonly notifications: Notifications
  /** A database of the tenant, outside of any transaction. */
  readonly database: (tenantId: string) => Kysely<any>
  /** How often every subscription looks without having been told to. */
  readonly pollMs: number
}

/** Reads at once at most, so that subscriptions leave connections of the pool to others. */
const MAX_READS = 4
/** A connection that the network forgot must not hold up a read for ever. */
const TIMEOUT_MS = { shortest: 1000, longest: 30_000 }
/** Channels of one statement at most. */
const MAX_CHANNELS = 1000

/**
 * The subscriptions of a process. A notification wakes those whose channel it names; they read rows, as their tenant. So
 * a forged one costs a read, and one that was missed is made up for when the connection is back, and by looking now and
 * then in any case.
 */
export class ChannelHub {
  readonly #parts: ChannelHubParts
  readonly #limit = createLimiter(MAX_READS)
  readonly #byTenant = new Map<string, Set<Subscription>>()
  readonly #byWakeKey = new Map<string, Set<Subscription>>()
  #timer: NodeJS.Timeout | undefined
  #stopListening: (() => void) | undefined
  #closed = false

  constructor(parts: ChannelHubParts) {
    this.#parts = parts
  }

  /** Messages that are committed after it resolved, and those after `after`, reach the handler. */
  async subscribe(
    tenantId: string,
    channel: string,
    handler: MessageHandler,
    after: number | undefined,
  ): Promise<Subscription> {
    return runWithoutAmbientTenant(async () => {
      const opened = (await this.#limit(() => openChannels(this.#runAs(tenantId), tenantId, [channel])))[0]!
      // An id that is not one of this channel is refused at once.
      if (after !== undefined) await this.#read(tenantId, channel, after, 1)
      const subscription = new Subscription({
        tenantId,
        channel,
        handler,
        lastId: after ?? opened.lastMessageId,
        read: (lastId, limit) => this.#read(tenantId, channel, lastId, limit),
        onEnd: (ended) => this.#remove(ended, opened),
      })
      if (this.#closed) subscription.end()
      else this.#add(subscription, opened)
      return subscription
    })
  }

  /** Ends all subscriptions. Waits for reads, not for handlers that run: one of them may be who closes. */
  async close(): Promise<void> {
    this.#closed = true
    for (const ofTenant of [...this.#byTenant.values()]) for (const subscription of [...ofTenant]) subscription.end()
    this.#stop()
    await this.#limit.idle()
  }

  #read(tenantId: string, channel: string, after: number, limit: number) {
    return this.#limit(() => readMessages(this.#runAs(tenantId), tenantId, channel, { after, limit }))
  }

  #runAs(tenantId: string): RunStatement {
    const db = this.#parts.database(tenantId)
    const timeoutMs = Math.min(Math.max(this.#parts.pollMs, TIMEOUT_MS.shortest), TIMEOUT_MS.longest)
    return (statement) => executeAbortable(db, statement.compile(db), AbortSignal.timeout(timeoutMs))
  }

  #add(subscription: Subscription, { wakeKey }: OpenChannel): void {
    addTo(this.#byTenant, subscription.tenantId, subscription)
    addTo(this.#byWakeKey, wakeKey, subscription)
    if (this.#stopListening === undefined) this.#start()
    // What was published since the channel was opened.
    subscription.wake()
  }

  #remove(subscription: Subscription, { wakeKey }: OpenChannel): void {
    removeFrom(this.#byTenant, subscription.tenantId, subscription)
    removeFrom(this.#byWakeKey, wakeKey, subscription)
    if (this.#byTenant.size === 0) this.#stop()
  }

  #start(): void {
    const { notifications, pollMs } = this.#parts
    const stopChannels = notifications.subscribe('rowhouse_channels', {
      notified: (payload) => {
        for (const subscription of this.#byWakeKey.get(payload) ?? []) subscription.wake()
      },
      listening: () => this.#lookAtAll(),
    })
    // Who may not work any more is told so, though nobody publishes to it.
    const stopTenants = watchTenantChanges(notifications, {
      changed: ({ concerns }) => {
        for (const tenantId of this.#byTenant.keys()) if (concerns(tenantId)) void this.#look(tenantId)
      },
    })
    this.#timer = setInterval(() => this.#lookAtAll(), pollMs).unref()
    this.#stopListening = () => {
      stopChannels()
      stopTenants()
    }
  }

  #stop(): void {
    clearInterval(this.#timer)
    const stop = this.#stopListening
    this.#stopListening = undefined
    stop?.()
  }

  #lookAtAll(): void {
    for (const tenantId of this.#byTenant.keys()) void this.#look(tenantId)
  }

  /** Wakes the subscriptions of a tenant that have something to read. */
  async #look(tenantId: string): Promise<void> {
    const ofTenant = this.#byTenant.get(tenantId)
    if (ofTenant === undefined) return
    const names = [...new Set([...ofTenant].map(({ channel }) => channel))]
    try {
      await runWithoutAmbientTenant(async () => {
        for (let begin = 0; begin < names.length; begin += MAX_CHANNELS) {
          const some = names.slice(begin, begin + MAX_CHANNELS)
          const opened = await this.#limit(() => openChannels(this.#runAs(tenantId), tenantId, some))
          const lastIds = new Map(opened.map(({ channel, lastMessageId }) => [channel, lastMessageId]))
          for (const subscription of [...ofTenant]) {
            if (subscription.lastId < (lastIds.get(subscription.channel) ?? 0)) subscription.wake()
          }
        }
      })
    } catch (error) {
      for (const subscription of [...ofTenant]) {
        // Each tries again until it has read.
        if (mayPass(error)) subscription.wake()
        else subscription.end(error)
      }
    }
  }
}

function addTo(map: Map<string, Set<Subscription>>, key: string, subscription: Subscription): void {
  map.set(key, (map.get(key) ?? new Set()).add(subscription))
}

function removeFrom(map: Map<string, Set<Subscription>>, key: string, subscription: Subscription): void {
  const subscriptions = map.get(key)
  subscriptions?.delete(subscription)
  if (subscriptions?.size === 0) map.delete(key)
}
