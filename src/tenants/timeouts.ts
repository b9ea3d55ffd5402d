import { sql } from 'kysely'
import * as z from 'zod'
import type { AdminExecutor } from '../context/admin-executor.ts'
import { parseTenantId } from '../context/context-options.ts'
import { parse } from '../documents/parse-documents.ts'

/** How long things in the transactions of a tenant last, in milliseconds. What is left out is as the server has it. */
export interface TenantTimeouts {
  /** A statement. */
  readonly statementMs?: number | undefined
  /** Waiting for a lock. */
  readonly lockMs?: number | undefined
  /** Being idle inside of a transaction; it ends the connection. */
  readonly idleInTransactionMs?: number | undefined
}

/**
 * Timeouts of the transactions of tenants, for operators. They begin with the transaction, in the same round trip. A limit
 * for well-behaved code, no wall: SQL of the tenant may set its own to anything.
 */
export interface Timeouts {
  /**
   * Sets the timeouts of the tenants of a tier, `*` for tiers that have none; `null` removes them. Holds from the next
   * transaction on.
   *
   * SQL: `select rowhouse.set_tier_timeouts('free', 5000, 1000, 30000)`
   *
   * Errors: `invalid_argument`.
   *
   * @example
   * ```ts
   * await rowhouse.timeouts.setDefault('free', { statementMs: 5000, lockMs: 1000, idleInTransactionMs: 30_000 })
   * ```
   */
  setDefault(tier: string, timeouts: TenantTimeouts | null): Promise<void>
  /**
   * Sets timeouts of one tenant, each in place of that of its tier; `null` goes back to those.
   *
   * SQL: `select rowhouse.set_tenant_timeouts('acme', 60000, null, null)`
   *
   * Errors: `invalid_argument`, {@link TenantNotFoundError}, {@link TenantInactiveError}.
   *
   * @example
   * ```ts
   * await rowhouse.timeouts.set('acme', { statementMs: 60_000 })
   * ```
   */
  set(tenantId: string, timeouts: TenantTimeouts | null): Promise<void>
}

const milliseconds = z
  .int('is not a whole number')
  .min(1, 'is less than 1')
  .max(86_400_000, 'is more than a day')
  .optional()
const timeoutsSchema = z
  .strictObject({ statementMs: milliseconds, lockMs: milliseconds, idleInTransactionMs: milliseconds })
  .nullable()
const tierName = z
  .string('is not a string')
  .regex(/^([a-z][a-z0-9_-]{0,31}|\*)$/, 'is not 1 to 32 small letters, digits, underscores or hyphens, or *')

export function createTimeouts({ db }: AdminExecutor): Timeouts {
  return {
    async setDefault(tier, timeouts) {
      const [statement, lock, idle] = parseTimeouts(timeouts)
      const name = parse(tierName, tier, 'invalid_argument', 'The tier')
      await sql`select rowhouse.set_tier_timeouts(${name}, ${statement}, ${lock}, ${idle})`.execute(db)
    },
    async set(tenantId, timeouts) {
      const [statement, lock, idle] = parseTimeouts(timeouts)
      const id = parseTenantId(tenantId)
      await sql`select rowhouse.set_tenant_timeouts(${id}, ${statement}, ${lock}, ${idle})`.execute(db)
    },
  }
}

function parseTimeouts(given: TenantTimeouts | null): readonly (number | null)[] {
  const { statementMs, lockMs, idleInTransactionMs } =
    parse(timeoutsSchema, given, 'invalid_argument', 'The timeouts') ?? {}
  return [statementMs ?? null, lockMs ?? null, idleInTransactionMs ?? null]
}
