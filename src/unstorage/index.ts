/**
 * An unstorage driver over a tenant's state.
 *
 * @module
 */
import type { State } from '../state/state.ts'

export interface StateDriverOptions {
  /** In front of every key in the tenant's state. Default `unstorage:`. */
  readonly prefix?: string | undefined
}

/** Options of a call, of which the driver knows this one. */
export interface StateDriverCall {
  /** Seconds. */
  readonly ttl?: number | undefined
}

/** A driver as unstorage 1 expects it. */
export interface StateDriver {
  readonly name: string
  readonly options: StateDriverOptions
  readonly flags: { readonly ttl: true }
  readonly getInstance: () => State
  hasItem(key: string): Promise<boolean>
  getItem(key: string): Promise<any>
  getItems(items: readonly { readonly key: string }[]): Promise<{ key: string; value: any }[]>
  setItem(key: string, value: string, call?: StateDriverCall): Promise<void>
  removeItem(key: string): Promise<void>
  getMeta(key: string): Promise<{ ttl?: number } | null>
  getKeys(base?: string): Promise<string[]>
  clear(base?: string): Promise<void>
}

/**
 * Lets unstorage keep its items in the state of one tenant.
 *
 * @example
 * ```ts
 * import { createRowhouse } from 'rowhouse'
 * import { stateDriver } from 'rowhouse/unstorage'
 * import { createStorage } from 'unstorage'
 *
 * const rowhouse = createRowhouse({ connectionString: 'postgres://app@localhost/app' })
 * const storage = createStorage({ driver: stateDriver(rowhouse.tenant('acme').state) })
 * await storage.setItem('drafts:1', { text: 'Dear customer' }, { ttl: 3600 })
 * ```
 */
export function stateDriver(state: State, options: StateDriverOptions = {}): StateDriver {
  const { prefix = 'unstorage:' } = options
  /** Without a base, unstorage gives none. */
  const inside = (key = '') => prefix + key
  return {
    name: 'rowhouse',
    options,
    flags: { ttl: true },
    getInstance: () => state,
    hasItem: async (key) => (await state.getMany([inside(key)])).length > 0,
    getItem: async (key) => (await state.get(inside(key))) ?? null,
    getItems: async (items) => {
      const entries = await state.getMany(items.map(({ key }) => inside(key)))
      const values = new Map(entries.map(({ key, value }) => [key, value]))
      return items.map(({ key }) => ({ key, value: values.get(inside(key)) ?? null }))
    },
    setItem: async (key, value, { ttl } = {}) => {
      await state.set(inside(key), value, { ttlMs: ttl === undefined ? undefined : ttl * 1000 })
    },
    removeItem: async (key) => {
      await state.delete(inside(key))
    },
    getMeta: async (key) => {
      const [entry] = await state.getMany([inside(key)])
      if (entry === undefined) return null
      return entry.expiresAt === null ? {} : { ttl: Math.ceil((entry.expiresAt.getTime() - Date.now()) / 1000) }
    },
    getKeys: async (base) => {
      const keys: string[] = []
      let cursor: string | undefined
      do {
        const page = await state.list({ prefix: inside(base), limit: 1000, cursor })
        keys.push(...page.entries.map(({ key }) => key.slice(prefix.length)))
        cursor = page.nextCursor
      } while (cursor !== undefined)
      return keys
    },
    clear: async (base) => {
      await state.clear({ prefix: inside(base) })
    },
  }
}
