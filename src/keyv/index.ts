/**
 * A Keyv storage adapter over a tenant's state.
 *
 * @module
 */
import { EventEmitter } from 'node:events'
import type { State } from '../state/state.ts'

export interface KeyvStateOptions {
  /** In front of every key in the tenant's state. Default `keyv:`. */
  readonly prefix?: string | undefined
}

/**
 * Lets Keyv keep its values in the state of one tenant. Made for Keyv 5; Keyv 6 uses it by its bridge.
 *
 * @example
 * ```ts
 * import Keyv from 'keyv'
 * import { createRowhouse } from 'rowhouse'
 * import { KeyvState } from 'rowhouse/keyv'
 *
 * const rowhouse = createRowhouse({ connectionString: 'postgres://app@localhost/app' })
 * const cache = new Keyv({ store: new KeyvState(rowhouse.tenant('acme').state), namespace: 'answers' })
 * await cache.set('question', 'answer', 60_000)
 * ```
 */
export class KeyvState extends EventEmitter {
  /** Keyv iterates over stores of the dialects that it knows. */
  readonly opts: Record<string, unknown> = { dialect: 'postgres', url: '' }
  /** Set by Keyv 5, which puts it in front of keys itself; not there for Keyv 6, which then does so too. */
  declare namespace?: string | undefined
  readonly #state: State
  readonly #prefix: string

  constructor(state: State, { prefix = 'keyv:' }: KeyvStateOptions = {}) {
    super()
    this.#state = state
    this.#prefix = prefix
  }

  async get(key: string): Promise<any> {
    return this.#state.get(this.#prefix + key)
  }

  async getMany(keys: readonly string[]): Promise<any[]> {
    const entries = await this.#state.getMany(keys.map((key) => this.#prefix + key))
    const values = new Map(entries.map(({ key, value }) => [key, value]))
    return keys.map((key) => values.get(this.#prefix + key))
  }

  /** `ttl` in milliseconds. */
  async set(key: string, value: unknown, ttl?: number): Promise<void> {
    await this.#state.set(this.#prefix + key, value, { ttlMs: ttl })
  }

  async setMany(entries: readonly { key: string; value: unknown; ttl?: number }[]): Promise<void> {
    await Promise.all(entries.map(({ key, value, ttl }) => this.set(key, value, ttl)))
  }

  async has(key: string): Promise<boolean> {
    return (await this.#state.getMany([this.#prefix + key])).length > 0
  }

  async hasMany(keys: readonly string[]): Promise<boolean[]> {
    const entries = await this.#state.getMany(keys.map((key) => this.#prefix + key))
    const found = new Set(entries.map(({ key }) => key))
    return keys.map((key) => found.has(this.#prefix + key))
  }

  async delete(key: string): Promise<boolean> {
    return this.deleteMany([key])
  }

  /** Whether any of them was there. */
  async deleteMany(keys: readonly string[]): Promise<boolean> {
    return (await this.#state.delete(keys.map((key) => this.#prefix + key))) > 0
  }

  /** Deletes what is in the namespace, or everything of Keyv when there is none. */
  async clear(): Promise<void> {
    await this.#state.clear({ prefix: this.#prefixOf(this.namespace) })
  }

  async *iterator(namespace: string | undefined = this.namespace): AsyncGenerator<[string, any], void> {
    let cursor: string | undefined
    do {
      const page = await this.#state.list({ prefix: this.#prefixOf(namespace), cursor })
      for (const { key, value } of page.entries) yield [key.slice(this.#prefix.length), value]
      cursor = page.nextCursor
    } while (cursor !== undefined)
  }

  #prefixOf(namespace: string | undefined): string {
    return namespace === undefined ? this.#prefix : `${this.#prefix}${namespace}:`
  }
}
