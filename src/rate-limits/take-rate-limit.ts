import { type Kysely, sql } from 'kysely'
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

interface DecisionRow {
  readonly call: number
  readonly admitted: number | null
  readonly decided_at: string
  readonly windows: readonly WindowTuple[]
}

/** Lets the database decide on calls of one limit, in one statement. The decisions are in the order of the calls. */
export async function takeRateLimit(
  db: Kysely<any>,
  { name, windows }: RateLimitRule,
  calls: readonly RateLimitCalls[],
  { holdMs = 0, inTransaction = false }: TakeOptions = {},
): Promise<RateLimitDecision[]> {
  const { rows } = await sql<DecisionRow>`
    select call, admitted, decided_at, windows from rowhouse.take_rate_limit(
      ${name}, ${windows?.limits ?? null}, ${windows?.lengths ?? null}, ${windows?.bursts ?? null},
      ${calls.map(({ subject }) => subject)}, ${calls.map(({ cost }) => cost)}, ${calls.map((call) => call.calls)}, ${holdMs}, ${inTransaction})
  `.execute(db)
  const decisions: RateLimitDecision[] = []
  for (const { call, admitted, decided_at, windows: states } of rows) {
    const { cost } = calls[call - 1]!
    decisions[call - 1] = { cost, admitted, decidedAt: Number(decided_at) / 1000, windows: states }
  }
  return decisions
}
