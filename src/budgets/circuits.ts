import { sql } from 'kysely'
import type { AdminExecutor } from '../context/admin-executor.ts'
import { parseTenantId } from '../context/context-options.ts'
import type { Money } from './prices.ts'

/** When circuits of tenants of a tier open by themselves. */
export interface CircuitRule {
  /** For how long calls are counted before counting begins anew. Default 60000. */
  readonly windowMs?: number | undefined
  /** So many calls are counted before a rate means something. Default 20. */
  readonly minCalls?: number | undefined
  /** Opens when so many of a hundred calls of the circuit failed. Default: never. */
  readonly errorPercent?: number | undefined
  /**
   * Opens when more is spent in a window. What calls of any circuit cost counts for the tenant as a whole, too, and so does
   * what `usage.record` books. Default: never.
   */
  readonly maxSpend?: Money | undefined
  /** How long it stays open before one call may try. Default 30000. */
  readonly pauseMs?: number | undefined
}

/**
 * Circuits stop the calls of a tenant, or those of it to one provider, when too many fail or money runs away; for
 * operators. All processes see them. After a pause one call may try: its outcome closes the circuit or opens it again.
 */
export interface Circuits {
  /**
   * Sets when circuits of tenants of a tier open, `*` for tiers that have no rule; `null` removes the rule.
   *
   * SQL: `select rowhouse.set_circuit_rule('*', 60000, 20, 50, 100, 30000)`
   *
   * Errors: `invalid_quota`.
   *
   * @example
   * ```ts
   * await rowhouse.circuits.setRule('*', { errorPercent: 50, maxSpend: 20, windowMs: 60_000, pauseMs: 30_000 })
   * ```
   */
  setRule(tier: string, rule: CircuitRule | null): Promise<void>
  /**
   * Opens a circuit by hand, by default that of all calls of the tenant, until it is reset, or for `pauseMs`.
   *
   * SQL: `select rowhouse.trip_circuit('acme', '', 'runaway agent', null)`
   *
   * @example
   * ```ts
   * await rowhouse.circuits.trip('acme', { reason: 'runaway agent' })
   * ```
   */
  trip(
    tenantId: string,
    options: { readonly circuit?: string; readonly reason: string; readonly pauseMs?: number },
  ): Promise<void>
  /**
   * Closes a circuit, by default that of all calls of the tenant, and counts anew.
   *
   * SQL: `select rowhouse.reset_circuit('acme', '')`
   */
  reset(tenantId: string, circuit?: string): Promise<void>
}

export function createCircuits({ db }: AdminExecutor): Circuits {
  return {
    async setRule(tier, rule) {
      if (rule === null) await sql`select rowhouse.unset_circuit_rule(${tier})`.execute(db)
      else {
        const { windowMs = 60_000, minCalls = 20, errorPercent = null, maxSpend = null, pauseMs = 30_000 } = rule
        await sql`select rowhouse.set_circuit_rule(${tier}, ${windowMs}, ${minCalls}, ${errorPercent},
          ${maxSpend}::numeric, ${pauseMs})`.execute(db)
      }
    },
    async trip(tenantId, { circuit = '', reason, pauseMs }) {
      await sql`
        select rowhouse.trip_circuit(${parseTenantId(tenantId)}, ${circuit}, ${reason}, ${pauseMs ?? null}::integer)
      `.execute(db)
    },
    async reset(tenantId, circuit = '') {
      await sql`select rowhouse.reset_circuit(${parseTenantId(tenantId)}, ${circuit})`.execute(db)
    },
  }
}
