/** Tenants that are remembered. */
const CAPACITY = 10_000

/** Remembers for a short time which tenants may work, so that not every request has to ask. */
export class TenantDirectory {
  readonly #check: (tenantId: string) => Promise<void>
  readonly #cacheMs: number
  readonly #checkedAt = new Map<string, number>()

  constructor(check: (tenantId: string) => Promise<void>, cacheMs: number) {
    this.#check = check
    this.#cacheMs = cacheMs
  }

  /** Rejects when the tenant is unknown, suspended or erased. What may not work is asked for every time. */
  async assertActive(tenantId: string): Promise<void> {
    const checkedAt = this.#checkedAt.get(tenantId)
    if (checkedAt !== undefined && performance.now() - checkedAt < this.#cacheMs) return
    await this.#check(tenantId)
    this.remember(tenantId)
  }

  /** The tenant was seen at work by somebody else. */
  remember(tenantId: string): void {
    // Newest last, so the first one is the oldest.
    this.#checkedAt.delete(tenantId)
    if (this.#checkedAt.size >= CAPACITY) this.#checkedAt.delete(this.#checkedAt.keys().next().value!)
    this.#checkedAt.set(tenantId, performance.now())
  }
}
