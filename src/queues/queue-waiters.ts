import type { ContextRuntime } from '../context/context-runtime.ts'
import { runWithoutAmbientTenant } from '../context/current-tenant.ts'
import { announcementOf, type Notifications } from '../context/notifications.ts'
import { RowhouseError } from '../errors.ts'
import type { QueueStatements, TicketState } from './queue-statements.ts'

/** As often as places are asked for while slots are announced, and while they aren't. */
const SLOW_POLL_MS = 2000
const FAST_POLL_MS = 200
/** Until new tickets are asked for, together. */
const FRESH_MS = 10
/** Announcements heard before their ticket was waited for: how many are remembered. */
const UNCLAIMED = 1000
/** The subscription outlives the last waiter by this much, so that bursts don't open a connection each. */
const LINGER_MS = 2000
/** Of a statement. */
const BATCH = 500

interface Waiter {
  readonly ticket: string
  readonly group: Group
  readonly resolve: (state: TicketState) => void
  readonly reject: (error: unknown) => void
}

/** The tickets of a tenant in a queue that this process waits for. */
interface Group {
  readonly key: string
  readonly statements: QueueStatements
  readonly waiters: Map<string, Waiter>
  /** Tickets that may have got their slot before anybody listened for it. */
  fresh: string[]
  keepMs: number
  timer: NodeJS.Timeout | undefined
  freshTimer: NodeJS.Timeout | undefined
  polling: boolean
}

/**
 * Waits for slots, for all tenants of a process: by notification, on one connection for all, and by asking again now and
 * then, which also keeps the places. Without notifications it asks more often.
 */
export class QueueWaiters {
  readonly #notifications: Notifications
  readonly #groups = new Map<string, Group>()
  readonly #byDigest = new Map<string, Waiter>()
  #unsubscribe: (() => void) | undefined
  #lingerTimer: NodeJS.Timeout | undefined
  /** Since when slots are announced to this process, by `performance.now()`; undefined: they aren't. */
  #listeningSince: number | undefined
  /** Announcements of tickets that nobody waits for, oldest first. */
  readonly #unclaimed = new Set<string>()

  constructor(notifications: Notifications) {
    this.#notifications = notifications
  }

  /**
   * Resolves when the ticket got its slot, or is gone. Stops, and keeps the ticket, when the signal aborts. `joinedAt` is
   * before the ticket was made, by `performance.now()`; without it, it may have got its slot long ago.
   */
  async wait(
    statements: QueueStatements,
    ticket: string,
    keepMs: number,
    signal: AbortSignal,
    joinedAt = Number.NEGATIVE_INFINITY,
  ): Promise<TicketState> {
    signal.throwIfAborted()
    const group = this.#group(statements, keepMs)
    const digest = announcementOf(ticket)
    let abort: (() => void) | undefined
    try {
      return await new Promise<TicketState>((resolve, reject) => {
        const waiter = { ticket, group, resolve, reject }
        abort = () => reject(signal.reason)
        signal.addEventListener('abort', abort, { once: true })
        group.waiters.set(ticket, waiter)
        this.#byDigest.set(digest, waiter)
        clearTimeout(this.#lingerTimer)
        this.#unsubscribe ??= runWithoutAmbientTenant(() => this.#subscribe(statements))
        if (this.#unclaimed.delete(digest)) {
          void this.#renew(group, [ticket])
        } else if (!(this.#listeningSince !== undefined && this.#listeningSince <= joinedAt)) {
          group.fresh.push(ticket)
          group.freshTimer ??= setTimeout(() => this.#askForFresh(group), FRESH_MS)
        }
        if (group.timer === undefined) this.#schedule(group, this.#pollMs(group))
      })
    } finally {
      signal.removeEventListener('abort', abort!)
      group.waiters.delete(ticket)
      this.#byDigest.delete(digest)
      this.#tidy(group)
    }
  }

  /** Slots may be free: asks for those that this process waits for in the queue, unless they are announced anyway. */
  freed(queue: string): void {
    if (this.#listeningSince !== undefined) return
    for (const group of this.#groups.values()) if (group.statements.queue === queue) this.#schedule(group, 0)
  }

  #subscribe(statements: QueueStatements): () => void {
    return this.#notifications.subscribe('rowhouse_queues', {
      notified: (payload) => {
        this.#listeningSince ??= performance.now()
        const waiter = this.#byDigest.get(payload)
        if (waiter !== undefined) void this.#renew(waiter.group, [waiter.ticket])
        else this.#remember(payload)
      },
      lost: () => {
        this.#listeningSince = undefined
        this.#unclaimed.clear()
        this.#pollAll()
      },
      // Behind a pooler, or on an embedded Postgres, nothing may ever be heard: the first announcement tells.
      listening: () => {
        this.#pollAll()
        void statements.announceNothing().catch(() => {})
      },
    })
  }

  #remember(payload: string): void {
    this.#unclaimed.add(payload)
    if (this.#unclaimed.size > UNCLAIMED) this.#unclaimed.delete(this.#unclaimed.values().next().value!)
  }

  #pollAll(): void {
    for (const group of this.#groups.values()) this.#schedule(group, 0)
  }

  #group(statements: QueueStatements, keepMs: number): Group {
    const key = `${statements.tenantId} ${statements.queue}`
    let group = this.#groups.get(key)
    if (group === undefined) {
      group = {
        key,
        statements,
        waiters: new Map(),
        fresh: [],
        keepMs,
        timer: undefined,
        freshTimer: undefined,
        polling: false,
      }
      this.#groups.set(key, group)
    }
    group.keepMs = Math.min(group.keepMs, keepMs)
    return group
  }

  #tidy(group: Group): void {
    if (group.waiters.size > 0) return
    clearTimeout(group.timer)
    clearTimeout(group.freshTimer)
    if (this.#groups.get(group.key) === group) this.#groups.delete(group.key)
    if (this.#groups.size > 0) return
    clearTimeout(this.#lingerTimer)
    this.#lingerTimer = setTimeout(() => {
      this.#unsubscribe?.()
      this.#unsubscribe = undefined
      this.#listeningSince = undefined
      this.#unclaimed.clear()
    }, LINGER_MS).unref()
  }

  #pollMs({ keepMs }: Group): number {
    const pause = this.#listeningSince === undefined ? FAST_POLL_MS : SLOW_POLL_MS
    return Math.min(keepMs / 3, pause * (0.75 + Math.random() / 2))
  }

  #schedule(group: Group, inMs: number): void {
    clearTimeout(group.timer)
    group.timer = setTimeout(() => void this.#poll(group), inMs)
  }

  #askForFresh(group: Group): void {
    group.freshTimer = undefined
    const tickets = group.fresh.splice(0).filter((ticket) => group.waiters.has(ticket))
    for (let from = 0; from < tickets.length; from += BATCH) void this.#renew(group, tickets.slice(from, from + BATCH))
  }

  async #poll(group: Group): Promise<void> {
    if (group.polling) return
    group.polling = true
    try {
      const tickets = [...group.waiters.keys()]
      for (let from = 0; from < tickets.length; from += BATCH) {
        await this.#renew(group, tickets.slice(from, from + BATCH))
      }
    } finally {
      group.polling = false
      if (group.waiters.size > 0) this.#schedule(group, this.#pollMs(group))
    }
  }

  /** Asks for tickets, and tells those who wait for one that doesn't wait any more. */
  async #renew(group: Group, tickets: readonly string[]): Promise<void> {
    try {
      for (const state of await group.statements.renew(tickets)) {
        if (state.status !== 'waiting') group.waiters.get(state.ticket)?.resolve(state)
      }
    } catch (error) {
      // What may pass is tried again, until the deadline of each.
      if (!(error instanceof RowhouseError) || error.retryable) return
      for (const ticket of tickets) group.waiters.get(ticket)?.reject(error)
    }
  }
}

const waitersOfRuntimes = new WeakMap<ContextRuntime, QueueWaiters>()

/** Those of a `createRowhouse` call. */
export function queueWaitersOf(runtime: ContextRuntime): QueueWaiters {
  let waiters = waitersOfRuntimes.get(runtime)
  if (waiters === undefined) {
    waiters = new QueueWaiters(runtime.notifications)
    waitersOfRuntimes.set(runtime, waiters)
  }
  return waiters
}
