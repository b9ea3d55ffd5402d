import { randomBytes } from 'node:crypto'
import { createRowhouseError, RowhouseError } from '../errors.ts'
import type { KeyContext, KeyProvider, WrappedKey } from './key-provider.ts'

/** How long a decrypted data key stays in memory: a key management service is slow and costs money. */
const CACHE_MS = 300_000
/** How many of them. */
const CAPACITY = 1000

/** Makes, encrypts and decrypts the data keys of tenants, with the provider's master keys. */
export class DataKeys {
  readonly #provider: KeyProvider | undefined
  readonly #cacheMs: number
  readonly #cache = new Map<string, { readonly key: Uint8Array; readonly until: number }>()

  constructor(provider: KeyProvider | undefined, cacheMs = CACHE_MS) {
    this.#provider = provider
    this.#cacheMs = cacheMs
  }

  get provider(): KeyProvider {
    if (this.#provider !== undefined) return this.#provider
    throw createRowhouseError('master_key_missing', 'Credentials need a provider of master keys.')
  }

  /** A new data key, encrypted. */
  async create(context: KeyContext): Promise<WrappedKey> {
    return this.provider.wrap(randomBytes(32), context)
  }

  /** The data key itself. */
  async unwrap(wrapped: WrappedKey, context: KeyContext): Promise<Uint8Array> {
    // By what is encrypted too: an erased tenant's key is not found by the id of its successor.
    const name = JSON.stringify([context.tenantId, context.keyVersion, Buffer.from(wrapped.wrapped).toString('base64')])
    const cached = this.#cache.get(name)
    if (cached !== undefined && cached.until > performance.now()) return cached.key
    const key = await this.#unwrap(wrapped, context)
    const now = performance.now()
    this.#cache.delete(name)
    // Those that came first expire first.
    for (const [other, { until }] of this.#cache) {
      if (until > now && this.#cache.size < CAPACITY) break
      this.#cache.delete(other)
    }
    this.#cache.set(name, { key, until: now + this.#cacheMs })
    return key
  }

  /** Encrypted by the current master key. */
  async rewrap(wrapped: WrappedKey, context: KeyContext): Promise<WrappedKey> {
    const { provider } = this
    if (provider.rewrap !== undefined) return provider.rewrap(wrapped, context)
    return provider.wrap(await this.#unwrap(wrapped, context), context)
  }

  async #unwrap(wrapped: WrappedKey, context: KeyContext): Promise<Uint8Array> {
    try {
      return await this.provider.unwrap(wrapped, context)
    } catch (error) {
      if (error instanceof RowhouseError) throw error
      throw createRowhouseError(
        'credential_unreadable',
        `Data key ${context.keyVersion} of tenant "${context.tenantId}" can't be decrypted.`,
        { cause: error },
      )
    }
  }
}
