import { randomUUID } from 'node:crypto'
import { parseTenantId } from '../context/context-options.ts'
import { getCurrentTenant } from '../context/current-tenant.ts'
import { createRowhouseError } from '../errors.ts'
import type { SessionStore, StoredSession } from './session-store.ts'

type MaybePromise<T> = T | Promise<T>

/**
 * A store that knows nothing of tenants: a Map, a client of Redis, a table of SQLite behind a few functions. Its methods
 * may return promises or not.
 */
export interface UnscopedSessionStore<T> {
  get(id: string): MaybePromise<T | null | undefined>
  set(id: string, session: T): unknown
  /** Stores a session under an id that is new. Default: `set`. */
  create?(id: string, session: T): unknown
  /** Returns whether there was one, or their number; a store that returns nothing is asked before. */
  delete?(id: string): unknown
  /** The name of `delete` in Redis. */
  del?(id: string): unknown
  /** Ids that begin with the prefix; others are left out. */
  list?(prefix: string): MaybePromise<Iterable<string> | AsyncIterable<string>>
  /** As in a Map (all ids) or in Redis (ids of a pattern). Used where there is no `list`. */
  keys?(pattern: string): MaybePromise<Iterable<string> | AsyncIterable<string>>
}

export interface TenantScopedSessionStoreOptions {
  /** The tenant. Default: the one of the surrounding `withTenant`, anew at each call. */
  readonly tenantId?: string | undefined
}

/**
 * Keeps the sessions of tenants apart in a store that isn't in Postgres: every id gets the tenant in front, every list
 * is cut down to it. Without a tenant each call fails with `no_tenant_context`; nothing is ever shared by accident.
 *
 * @example
 * ```ts
 * const shared = new Map<string, { history: string[] }>()
 * const store = new TenantScopedSessionStore(shared, { tenantId })
 * const id = await store.create({ history: [] })
 * ```
 */
export class TenantScopedSessionStore<T> implements SessionStore<T> {
  readonly #store: UnscopedSessionStore<T>
  readonly #tenantId: string | undefined

  constructor(store: UnscopedSessionStore<T>, { tenantId }: TenantScopedSessionStoreOptions = {}) {
    if (store.delete === undefined && store.del === undefined) {
      throw createRowhouseError('invalid_argument', 'The store has neither delete nor del.')
    }
    this.#store = store
    this.#tenantId = tenantId === undefined ? undefined : parseTenantId(tenantId)
  }

  async get(id: string): Promise<T | undefined> {
    return (await this.#store.get(this.#scoped(id))) ?? undefined
  }

  async set(id: string, session: T): Promise<void> {
    await this.#store.set(this.#scoped(id), session)
  }

  async create(session: T): Promise<string> {
    const id = randomUUID()
    const scoped = this.#scoped(id)
    await (this.#store.create === undefined ? this.#store.set(scoped, session) : this.#store.create(scoped, session))
    return id
  }

  async delete(id: string): Promise<boolean> {
    const scoped = this.#scoped(id)
    const existed = (await this.#store.get(scoped)) ?? undefined
    const result = await (this.#store.delete === undefined ? this.#store.del!(scoped) : this.#store.delete(scoped))
    if (typeof result === 'boolean') return result
    return typeof result === 'number' ? result > 0 : existed !== undefined
  }

  async list(): Promise<StoredSession<T>[]> {
    const prefix = this.#prefix()
    const store = this.#store
    if (store.list === undefined && store.keys === undefined) {
      throw createRowhouseError('invalid_argument', 'The store has neither list nor keys.')
    }
    const ids = await (store.list === undefined ? store.keys!(`${prefix}*`) : store.list(prefix))
    const found: StoredSession<T>[] = []
    for await (const scoped of ids) {
      // Whatever the store makes of the prefix: only what is this tenant's.
      if (!scoped.startsWith(prefix)) continue
      const session = await store.get(scoped)
      if (session !== undefined && session !== null) found.push({ id: scoped.slice(prefix.length), session })
    }
    return found
  }

  #scoped(id: string): string {
    if (typeof id !== 'string' || id === '') {
      throw createRowhouseError('invalid_argument', 'The id of a session is a string that is not empty.')
    }
    return this.#prefix() + id
  }

  /** No tenant id contains a colon, so no id of one tenant looks like one of another. */
  #prefix(): string {
    const tenantId = this.#tenantId ?? getCurrentTenant()
    if (tenantId === undefined) {
      throw createRowhouseError('no_tenant_context', 'The session store was used outside of withTenant.', {
        hint: 'Use it inside withTenant, or give it a tenantId.',
      })
    }
    const current = getCurrentTenant()
    if (current !== undefined && current !== tenantId) {
      throw createRowhouseError(
        'tenant_mismatch',
        `A session store of tenant "${tenantId}" was used inside withTenant("${current}").`,
      )
    }
    return `${tenantId}:`
  }
}
