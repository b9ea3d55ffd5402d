import type { TenantChangeListener } from '../context/tenant-changes.ts'

/** Tenants that are remembered. */
const CAPACITY = 10_000

export interface TenantDirectoryOptions {
  /** Rejects when the tenant is unknown, suspended or erased. */
  readonly check: (tenantId: string) => Promise<void>
  /** How long a tenant is remembered while changes are not heard. */
  readonly cacheMs: number
  /** How long while they are. */
  readonly cacheListeningMs: number
}

/** Remembers for a time which tenants may work, so that not every request has to ask. */
export class TenantDirectory implements TenantChangeListener {
  readonly #options: TenantDirectoryOptions
  readonly #checkedAt = new Map<string, number>()
  #listening = false
  /** Goes up with each change: an answer from before it may be wrong by now. */
  #changes = 0

  constructor(options: TenantDirectoryOptions) {
    this.#options = options
  }

  /** Rejects when the tenant may not work; that is asked for every time. */
  async assertActive(tenantId: string): Promise<void> {
    const { cacheMs, cacheListeningMs, check } = this.#options
    const checkedAt = this.#checkedAt.get(tenantId)
    const validMs = this.#listening ? cacheListeningMs : cacheMs
    if (checkedAt !== undefined && performance.now() - checkedAt < validMs) return
    const changes = this.#changes
    await check(tenantId)
    if (changes === this.#changes) this.remember(tenantId)
  }

  /** The tenant was seen at work by somebody else. */
  remember(tenantId: string): void {
    // Newest last, so the first one is the oldest.
    this.#checkedAt.delete(tenantId)
    if (this.#checkedAt.size >= CAPACITY) this.#checkedAt.delete(this.#checkedAt.keys().next().value!)
    this.#checkedAt.set(tenantId, performance.now())
  }

  changed({ concerns }: Parameters<TenantChangeListener['changed']>[0]): void {
    this.#changes++
    for (const tenantId of this.#checkedAt.keys()) if (concerns(tenantId)) this.#checkedAt.delete(tenantId)
  }

  lost(): void {
    this.#listening = false
    this.#forgetAll()
  }

  listening(): void {
    this.#listening = true
    // What was remembered before may have changed unheard.
    this.#forgetAll()
  }

  #forgetAll(): void {
    this.#changes++
    this.#checkedAt.clear()
  }
}
