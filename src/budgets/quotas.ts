import { sql } from 'kysely'
import type { AdminExecutor } from '../context/admin-executor.ts'
import { parseTenantId } from '../context/context-options.ts'
import type { QuotaPeriod } from './budget-types.ts'

/** What a quota counts, and for how long. */
export interface QuotaDefinition {
  /**
   * `requests`, `tokens`, `money`, `slots` (calls at the same time), a unit of a price as the database names it, such as
   * `output_tokens`, or a name of your own, such as `documents`.
   */
  readonly metric: string
  readonly period: QuotaPeriod
  /** Length of a rolling period in milliseconds, from 1000. */
  readonly windowMs?: number | undefined
}

/** Limits of a quota. */
export interface QuotaLimits {
  /** What is used and reserved never passes it. `null`: unlimited. */
  readonly limit: number | null
  /** Crossing it is noted once in a period, and told by the settlement that did. */
  readonly softLimit?: number | null | undefined
}

/** How a tenant is billed. What is left out stays as it is; `null` goes back to the default. */
export interface AccountSettings {
  /** ISO 4217 code of its prices and budgets; can't change once it has usage. Default `USD`. */
  readonly currency?: string | null | undefined
  /**
   * Time zone in which its days and months begin. In the periods of another zone that are going on, what was used in those
   * before goes on counting. Default `UTC`.
   */
  readonly timeZone?: string | null | undefined
  /** Models that it may use. Default: those of its tier. */
  readonly models?: readonly string[] | null | undefined
}

/**
 * Quotas and budgets, for operators. Changes hold from the next call on; those of a tenant may be made while it is
 * suspended. There are defaults for the tiers `free`,
 * `starter`, `professional` and `enterprise`, and `*` for all others.
 */
export interface Quotas {
  /**
   * Defines what a quota counts; it limits nothing until a tier or a tenant has a limit. Repeating it changes nothing.
   *
   * `concurrency`, `tokens_per_day`, `tokens_per_month`, `money_per_month`, `requests_per_day`, `requests_per_month`,
   * `documents`, `seats` and `stored_bytes` are defined already; the last five have no limits by tier.
   *
   * SQL: `select rowhouse.define_quota('gpu_seconds_per_day', 'gpu_seconds', 'day')`
   *
   * Errors: `invalid_quota`.
   *
   * @example
   * ```ts
   * await rowhouse.quotas.define('gpu_seconds_per_day', { metric: 'gpu_seconds', period: 'day' })
   * await rowhouse.quotas.setDefault('starter', 'seats', { limit: 10, softLimit: 8 })
   * ```
   */
  define(name: string, definition: QuotaDefinition): Promise<void>
  /**
   * Sets the limits of a tier, `*` for all tiers that have none of this name; `null` removes them.
   *
   * SQL: `select rowhouse.set_default_quota('starter', 'money_per_month', 100, 80)`
   *
   * Errors: `unknown_quota`, `invalid_quota`.
   */
  setDefault(tier: string, name: string, limits: QuotaLimits | null): Promise<void>
  /**
   * Sets the limits of one tenant; `null` goes back to those of its tier.
   *
   * SQL: `select rowhouse.set_quota('acme', 'money_per_month', 250, 200)`
   *
   * Errors: `unknown_quota`, `invalid_quota`.
   *
   * @example
   * ```ts
   * await rowhouse.quotas.set('acme', 'money_per_month', { limit: 250, softLimit: 200 })
   * ```
   */
  set(tenantId: string, name: string, limits: QuotaLimits | null): Promise<void>
  /**
   * Sets how a tenant is billed: what is given; all else stays as it is.
   *
   * SQL: `select rowhouse.set_account('acme', 'EUR', 'Europe/Berlin', '{large}')`
   *
   * Errors: `invalid_quota`.
   *
   * @example
   * ```ts
   * await rowhouse.quotas.setAccount('acme', { currency: 'EUR', models: ['small', 'large'] })
   * await rowhouse.quotas.setAccount('acme', { models: null })     // those of its tier
   * ```
   */
  setAccount(tenantId: string, settings: AccountSettings): Promise<void>
  /**
   * Sets the models that tenants of a tier may use; `null`: every model that has a price.
   *
   * SQL: `select rowhouse.set_tier_models('free', '{small}')`
   */
  setTierModels(tier: string, models: readonly string[] | null): Promise<void>
}

export function createQuotas({ db }: AdminExecutor): Quotas {
  return {
    async define(name, { metric, period, windowMs }) {
      await sql`select rowhouse.define_quota(${name}, ${metric}, ${period}, ${windowMs ?? null}::bigint)`.execute(db)
    },
    async setDefault(tier, name, limits) {
      if (limits === null) await sql`select rowhouse.unset_default_quota(${tier}, ${name})`.execute(db)
      else {
        const { limit, softLimit = null } = limits
        await sql`select rowhouse.set_default_quota(${tier}, ${name}, ${limit}, ${softLimit})`.execute(db)
      }
    },
    async set(tenantId, name, limits) {
      const id = parseTenantId(tenantId)
      if (limits === null) await sql`select rowhouse.unset_quota(${id}, ${name})`.execute(db)
      else {
        const { limit, softLimit = null } = limits
        await sql`select rowhouse.set_quota(${id}, ${name}, ${limit}, ${softLimit})`.execute(db)
      }
    },
    async setAccount(tenantId, { currency, timeZone, models }) {
      const given = { currency, time_zone: timeZone, models }
      const reset = Object.entries(given).flatMap(([name, value]) => (value === null ? [name] : []))
      await sql`
        select rowhouse.set_account(${parseTenantId(tenantId)}, ${currency ?? null}, ${timeZone ?? null},
          ${models ?? null}::text[], ${reset}::text[])
      `.execute(db)
    },
    async setTierModels(tier, models) {
      await sql`select rowhouse.set_tier_models(${tier}, ${models}::text[])`.execute(db)
    },
  }
}
