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
  /** Whether slots are announced to this process. */
  #listening = false

  constructor(notifications: Notifications) {
    this.#notifications = notifications
  }

  /** Resolves when the ticket got its slot, or is gone. Stops, and keeps the ticket, when the signal aborts. */
  async wait(statements: QueueStatements, ticket: string, keepMs: number, signal: AbortSignal): Promise<TicketState> {
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
        this.#unsubscribe ??= runWithoutAmbientTenant(() => this.#subscribe())
        group.fresh.push(ticket)
        group.freshTimer ??= setTimeout(() => this.#askForFresh(group), FRESH_MS)
        if (group.timer === undefined) this.#schedule(group, FAST_POLL_MS)
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
    if (this.#listening) return
    for (const group of this.#groups.values()) if (group.statements.queue === queue) this.#schedule(group, 0)
  }

  #subscribe(): () => void {
    return this.#notifications.subscribe('rowhouse_queues', {
      notified: (payload) => {
        this.#listening = true
        const waiter = this.#byDigest.get(payload)
        if (waiter !== undefined) void this.#renew(waiter.group, [waiter.ticket])
      },
      lost: () => {
        this.#listening = false
        this.#pollAll()
      },
      listening: () => {
        this.#listening = true
        this.#pollAll()
      },
    })
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
    this.#unsubscribe?.()
    this.#unsubscribe = undefined
    this.#listening = false
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
        const granted = await this.#renew(group, tickets.slice(from, from + BATCH))
        // It was not announced, as on an embedded Postgres; or will be now, which mends this.
        if (granted) this.#listening = false
      }
    } finally {
      group.polling = false
      const pause = this.#listening ? SLOW_POLL_MS : FAST_POLL_MS
      if (group.waiters.size > 0) this.#schedule(group, Math.min(group.keepMs / 3, pause * (0.75 + Math.random() / 2)))
    }
  }

  /** Asks for tickets; true when one of them got its slot. */
  async #renew(group: Group, tickets: readonly string[]): Promise<boolean> {
    let granted = false
    try {
      for (const state of await group.statements.renew(tickets)) {
        if (state.status === 'waiting') continue
        granted ||= state.status === 'running'
        group.waiters.get(state.ticket)?.resolve(state)
      }
    } catch (error) {
      // What may pass is tried again, until the deadline of each.
      if (!(error instanceof RowhouseError) || error.retryable) return false
      for (const ticket of tickets) group.waiters.get(ticket)?.reject(error)
    }
    return granted
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
