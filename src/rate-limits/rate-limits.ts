import { sql } from 'kysely'
import type { AdminExecutor } from '../context/admin-executor.ts'
import { parseTenantId } from '../context/context-options.ts'
import { sweepInBatches } from '../sweep/sweep-in-batches.ts'
import { parseWindows, type RateLimitWindow } from './rate-limit-options.ts'

/** The windows of a limit, or the name of a tier whose windows it shall have, for example `professional`. */
export type RateLimitSetting = readonly RateLimitWindow[] | string

/** Sets rate limits; as `rowhouse_admin`. Changes hold from the next call on; with `lease` within its `ttlMs`. */
export interface RateLimits {
  /**
   * Sets a limit of every tenant of a tier that has none of its own; `null` removes it. Tier `*` stands for all tiers
   * that have no limit of this name.
   *
   * SQL: `select rowhouse.set_default_rate_limit('*', 'search', '[{"limit": 5, "windowMs": 1000}]')`
   *
   * @example
   * ```ts
   * await rowhouse.rateLimits.setDefault('*', 'search', [{ limit: 5, windowMs: 1000 }])
   * ```
   */
  setDefault(tier: string, name: string, windows: RateLimitSetting | null): Promise<void>
  /**
   * Sets a limit of one tenant; `null` goes back to that of its tier.
   *
   * SQL: `select rowhouse.set_rate_limit('acme', 'requests', '"enterprise"')`
   *
   * @example
   * ```ts
   * await rowhouse.rateLimits.set('acme', 'requests', 'enterprise')
   * ```
   */
  set(tenantId: string, name: string, windows: RateLimitSetting | null): Promise<void>
  /**
   * Deletes counters of a tenant that count nothing any more, 1000 in a transaction, and returns how many. Tenants at
   * work do so themselves; this is for those that left.
   *
   * SQL: `select rowhouse.sweep_rate_limits('acme', 1000)`
   */
  sweep(tenantId: string): Promise<number>
}

const SWEEP_BATCH = 1000

export function createRateLimits({ db }: AdminExecutor): RateLimits {
  return {
    async setDefault(tier, name, windows) {
      await sql`select rowhouse.set_default_rate_limit(${tier}, ${name}, ${toJson(windows)}::jsonb)`.execute(db)
    },
    async set(tenantId, name, windows) {
      await sql`select rowhouse.set_rate_limit(${parseTenantId(tenantId)}, ${name}, ${toJson(windows)}::jsonb)`.execute(
        db,
      )
    },
    async sweep(tenantId) {
      const call = sql`rowhouse.sweep_rate_limits(${parseTenantId(tenantId)}, ${SWEEP_BATCH})`
      return sweepInBatches(db, call)
    },
  }
}

function toJson(windows: RateLimitSetting | null): string | null {
  if (windows === null) return null
  if (typeof windows !== 'string') parseWindows(windows)
  return JSON.stringify(windows)
}
