import { createHash } from 'node:crypto'
import pg from 'pg'
import { createRowhouseError } from '../errors.ts'
import type { ConnectionSource } from './connection-source.ts'

/** Told when the status of a tenant changed: suspended, resumed, erased. */
export interface TenantChangeListener {
  /** Some tenant changed; `concerns(id)` tells whether it was this one. */
  changed(change: TenantChange): void
  /** Changes may have been missed since, and will be until `listening`. */
  lost?(): void
  /** From now on changes are heard. */
  listening?(): void
}

export interface TenantChange {
  concerns(tenantId: string): boolean
}

/** Until the next attempt to connect again. */
const RETRY_MS = 1000

/** Listens for changes of tenants on a connection of its own, while anybody wants to know. */
export class TenantChanges {
  readonly #source: ConnectionSource
  readonly #listeners = new Set<TenantChangeListener>()
  #client: pg.Client | undefined
  #listening = false
  #retry: NodeJS.Timeout | undefined
  #closed = false

  constructor(source: ConnectionSource) {
    this.#source = source
  }

  /** Starts to tell the listener; returns what stops it. */
  subscribe(listener: TenantChangeListener): () => void {
    if (typeof listener?.changed !== 'function') {
      throw createRowhouseError(
        'invalid_argument',
        'A listener to changes of tenants is an object with a function changed.',
      )
    }
    if (this.#closed) return () => {}
    this.#listeners.add(listener)
    if (this.#listening) listener.listening?.()
    else if (this.#client === undefined && this.#retry === undefined) void this.#connect()
    return () => {
      this.#listeners.delete(listener)
      if (this.#listeners.size === 0) void this.#disconnect()
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#listeners.clear()
    await this.#disconnect()
  }

  async #connect(): Promise<void> {
    const client = new pg.Client({ ...this.#source.clientOptions, application_name: 'rowhouse tenant changes' })
    this.#client = client
    client.on('error', () => {})
    client.on('end', () => this.#lose(client))
    client.on('notification', ({ payload = '' }) => {
      const change = { concerns: (tenantId: string) => digestOf(tenantId) === payload }
      for (const listener of this.#listeners) listener.changed(change)
    })
    try {
      await client.connect()
      await client.query('listen rowhouse_tenants')
      if (this.#client !== client) return
      this.#listening = true
      for (const listener of this.#listeners) listener.listening?.()
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
      for (const listener of this.#listeners) listener.lost?.()
    }
    if (this.#closed || this.#listeners.size === 0) return
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

/** As the database announces a tenant: whoever listens learns no id from it. */
function digestOf(tenantId: string): string {
  return createHash('sha256').update(tenantId).digest('hex').slice(0, 32)
}
