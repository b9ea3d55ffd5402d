import { CompiledQuery, type Kysely } from 'kysely'
import type { RateLimitRule } from './rate-limit-options.ts'
import type { RateLimitDecision, WindowTuple } from './rate-limit-result.ts'

/** Equal calls of one subject. */
export interface RateLimitCalls {
  readonly subject: string
  readonly cost: number
  /** 0: only looks. */
  readonly calls: number
}

interface TakeOptions {
  /** What is admitted may be spent within this time. */
  readonly holdMs?: number
  /** Whether the transaction goes on: then it takes the account of the tenant before the counter. */
  readonly inTransaction?: boolean
}

/** What the database says of equal calls; the time in microseconds. */
type DecisionTuple = readonly [admitted: number | null, decidedAt: number, windows: readonly WindowTuple[]]

/** Constant, so it is not put together anew for each statement. */
const TAKE_RATE_LIMIT = 'select rowhouse.take_rate_limit($1, $2, $3, $4, $5, $6, $7, $8, $9) as decisions'

/** Lets the database decide on calls of one limit, in one statement. The decisions are in the order of the calls. */
export async function takeRateLimit(
  db: Kysely<any>,
  { name, windows }: RateLimitRule,
  calls: readonly RateLimitCalls[],
  { holdMs = 0, inTransaction = false }: TakeOptions = {},
): Promise<RateLimitDecision[]> {
  const { rows } = await db.executeQuery<{ decisions: readonly DecisionTuple[] }>(
    CompiledQuery.raw(TAKE_RATE_LIMIT, [
      name,
      windows?.limits ?? null,
      windows?.lengths ?? null,
      windows?.bursts ?? null,
      calls.map(({ subject }) => subject),
      calls.map(({ cost }) => cost),
      calls.map((call) => call.calls),
      holdMs,
      inTransaction,
    ]),
  )
  return rows[0]!.decisions.map(([admitted, decidedAt, states], index) => ({
    cost: calls[index]!.cost,
    admitted,
    decidedAt: decidedAt / 1000,
    windows: states,
  }))
}
