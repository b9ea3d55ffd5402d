import type { ConnectionSource } from './connection-source.ts'
import type { StartupCheck } from './startup-check.ts'

/** The name of the database that `createRowhouse` was given first. */
export const HOME = 'home'

/** A database that tenants are in. */
export interface Placement {
  readonly source: ConnectionSource
  readonly startupCheck: StartupCheck
}

/** Tenants whose database is remembered. */
const SIZE = 10_000

/**
 * In which database each tenant is, as far as this process knows. It need not know: a database that a tenant moved away
 * from refuses its transactions and names the other one, before anything ran.
 */
export class Placements {
  readonly #all: ReadonlyMap<string, Placement>
  readonly #known = new Map<string, Placement>()

  /** `all` has one called home. */
  constructor(all: ReadonlyMap<string, Placement>) {
    this.#all = all
  }

  /** Hops that can lead to a tenant. */
  get size(): number {
    return this.#all.size
  }

  /** Where to look for the tenant first. */
  sourceOf(tenantId: string): ConnectionSource {
    return (this.#known.get(tenantId) ?? this.#all.get(HOME)!).source
  }

  /** Where the tenant is, as a database said; undefined when this process does not know that one. */
  async follow(tenantId: string, name: string): Promise<ConnectionSource | undefined> {
    const placement = this.#all.get(name)
    if (placement === undefined) return undefined
    await placement.startupCheck.pass()
    this.#known.delete(tenantId)
    if (this.#known.size >= SIZE) this.#known.delete(this.#known.keys().next().value!)
    this.#known.set(tenantId, placement)
    return placement.source
  }
}
