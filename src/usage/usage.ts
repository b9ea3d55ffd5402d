import { type Kysely, type RawBuilder, sql } from 'kysely'
import type { SettleDetails, Settlement } from '../budgets/budget-types.ts'
import { detailsToJson, parseCallId, parseName } from '../budgets/call-arguments.ts'
import { type Units, unitsToJson } from '../budgets/units.ts'
import { evenIfSuspended } from '../context/even-if-suspended.ts'
import type { TenantExecutor } from '../context/tenant-executor.ts'
import { createRowhouseError } from '../errors.ts'
import { sweepInBatches } from '../sweep/sweep-in-batches.ts'
import { formatEvent, headerOf } from './usage-format.ts'
import type {
  UsageDifference,
  UsageEvent,
  UsageFormat,
  UsageLine,
  UsageReportOptions,
  UsageSpan,
} from './usage-types.ts'

const PAGE = 1000
const DEFAULT_SPAN_MS = 30 * 86_400_000

export interface RecordUsageOptions extends Omit<SettleDetails, 'failed' | 'audit'> {
  readonly model?: string | undefined
  /** Within the last 31 days; prices and periods are those of then. Default: now. */
  readonly occurredAt?: Date | undefined
}

/**
 * What a tenant used, what it cost, and reports of it. Calls that a budget settles are here by themselves. Outside of
 * `withTenant` all of it but `sweep` works for a suspended tenant too, which is billed for what it used.
 *
 * @example
 * ```ts
 * const { usage } = rowhouse.tenant('acme')
 * await usage.record('search-1', { toolCalls: 1, money: '0.005' }, { kind: 'tool_call', provider: 'brave' })
 * const lines = await usage.report({ by: ['day', 'model'] })
 * ```
 */
export class Usage {
  readonly #executor: TenantExecutor
  readonly #booksDb: (() => Kysely<any>) | undefined

  /** @internal */
  constructor(executor: TenantExecutor, booksDb: (() => Kysely<any>) | undefined = undefined) {
    this.#executor = executor
    this.#booksDb = booksDb
  }

  /**
   * Books what was used already, without admission: a tool call, a batch that a provider billed. Repeating it with its
   * event id changes nothing. It is booked whether or not it fits into the quotas.
   *
   * SQL: `select rowhouse.record_usage('search-1', '{"tool_calls": 1}', null, '{"kind": "tool_call"}')`
   *
   * Errors: `invalid_amount`, `unknown_quota`, `unknown_price`; `request_id_used` when a call of this id is at work.
   */
  async record(eventId: string, units: Units, options: RecordUsageOptions = {}): Promise<Settlement> {
    const { model = null, occurredAt = null, kind, provider, latencyMs, metadata } = options
    parseCallId(eventId, 'The event id')
    parseName(model, 'The model')
    const details = detailsToJson({ kind, provider, latencyMs, metadata })
    const { rows } = await this.#execute(sql<{ answer: Settlement }>`
      select rowhouse.record_usage(${eventId}, ${unitsToJson(units)}::jsonb, ${model}, ${details}::jsonb,
        ${occurredAt}::timestamptz) as answer
    `)
    const { cost, currency, duplicate, crossed } = rows[0]!.answer
    return { requestId: eventId, cost, currency, duplicate, crossed }
  }

  /**
   * Usage of a span of time, broken down, each event in it exactly once, also late ones. It reads rollups, and events that
   * are not rolled up yet, locks nothing, and works in a `readOnly` transaction.
   *
   * SQL: `select * from rowhouse.usage_report('2026-11-01', '2026-12-01', '{day,model}')`
   *
   * Errors: `invalid_amount` for what can't be a breakdown, and for a span that begins or ends more than 31 days ago
   * and not on a full quarter of an hour, such as 10:45.
   */
  async report({ from, to, by = ['model'] }: UsageReportOptions = {}): Promise<UsageLine[]> {
    const span = parseSpan({ from, to })
    const { rows } = await this.#execute(sql<Record<string, unknown>>`
      select * from rowhouse.usage_report(${span.from}, ${span.to}, ${[...by]}::text[])
    `)
    return rows.map(toLine)
  }

  /** @internal In which the days and months of its reports begin. */
  async timeZone(): Promise<string> {
    const { rows } = await this.#execute(sql<{ timeZone: string }>`
      select a.time_zone as "timeZone" from rowhouse.accounts a where a.tenant_id = ${this.#executor.tenantId}
    `)
    return rows[0]?.timeZone ?? 'UTC'
  }

  /** @internal Brings the rollups up to date; returns of how many hours something was made. */
  async rollup(): Promise<number> {
    const { rows } = await this.#execute(sql<{ hours: number }>`select rowhouse.rollup_usage() as hours`)
    return rows[0]!.hours
  }

  /**
   * Compares the books: counters with events and calls at work, the cost of each event with its prices, each figure of the
   * rollups with their events. Nothing comes back when all agree.
   *
   * SQL: `select * from rowhouse.reconcile_usage()`
   */
  async reconcile(): Promise<UsageDifference[]> {
    const { rows } = await this.#execute(sql<UsageDifference>`
      select book, name, period_start as "periodStart", difference, counted, expected from rowhouse.reconcile_usage()
    `)
    return rows
  }

  /**
   * Deletes events that are older than the tenant keeps them: `usage` in the object `retentionDays` of its settings, else
   * by its tier; 32 days at least. Reports stay what they were: the rollups are kept.
   *
   * SQL: `select rowhouse.sweep_usage_events($1)`
   *
   * @returns How many were deleted.
   */
  async sweep({ batchSize = 1000 }: { readonly batchSize?: number | undefined } = {}): Promise<number> {
    return sweepInBatches(this.#executor.db, sql`rowhouse.sweep_usage_events(${batchSize})`)
  }

  /**
   * Every event that occurred in a span, line by line, in the order of recording. Reads a page at a time.
   *
   * SQL: `select ... from rowhouse.usage_events where (recorded_at, request_id, part) > (...) limit 1000`
   *
   * @example
   * ```ts
   * for await (const line of rowhouse.tenant('acme').usage.export('csv')) console.log(line)
   * ```
   */
  async *export(format: UsageFormat, span: UsageSpan = {}): AsyncGenerator<string, void, undefined> {
    if (format !== 'csv' && format !== 'cloudevents') {
      throw createRowhouseError('invalid_argument', 'The format is csv or cloudevents.')
    }
    const { tenantId } = this.#executor
    const header = headerOf(format)
    if (header !== undefined) yield header
    const { from, to } = parseSpan(span)
    let last: (UsageEvent & { readonly recorded: string }) | undefined
    do {
      const page = await this.#readPage(from, to, last)
      for (const event of page) yield formatEvent(format, tenantId, withoutCursor(event))
      last = page.length === PAGE ? page.at(-1) : undefined
    } while (last !== undefined)
  }

  async #readPage(from: Date, to: Date, last: { recorded: string; requestId: string; part: string } | undefined) {
    const { rows } = await this.#execute(sql<UsageEvent & { recorded: string }>`
      select u.request_id as "requestId", u.part, u.kind, u.model, u.provider, u.user_id as "userId", u.units,
          u.cost::text as cost, u.currency, u.occurred_at as "occurredAt", u.recorded_at as "recordedAt",
          u.latency_ms as "latencyMs", u.metadata, u.recorded_at::text as recorded
        from rowhouse.usage_events u
        where u.tenant_id = ${this.#executor.tenantId} and u.occurred_at >= ${from} and u.occurred_at < ${to}
          and (u.recorded_at, u.request_id, u.part)
            > (${last?.recorded ?? '-infinity'}::timestamptz, ${last?.requestId ?? ''}, ${last?.part ?? ''})
        order by u.recorded_at, u.request_id, u.part
        limit ${PAGE}
    `)
    return rows
  }

  /** A suspended tenant is billed for what it used. */
  #execute<Row>(statement: RawBuilder<Row>) {
    return evenIfSuspended(this.#executor.db, this.#booksDb, (db) => statement.execute(db))
  }
}

/** A time has more digits in the database than a `Date`, which the next page needs. */
function withoutCursor({ recorded: _, ...event }: UsageEvent & { readonly recorded: string }): UsageEvent {
  return event
}

export function parseSpan({ from, to }: UsageSpan): { from: Date; to: Date } {
  const span = { from: from ?? new Date(Date.now() - DEFAULT_SPAN_MS), to: to ?? new Date(Date.now() + 3_600_000) }
  for (const date of [span.from, span.to]) {
    if (!(date instanceof Date) || Number.isNaN(date.getTime())) {
      throw createRowhouseError('invalid_argument', 'from and to are dates.')
    }
  }
  return span
}

function toLine(row: Record<string, unknown>): UsageLine {
  const optional = <T>(value: unknown) => (value ?? undefined) as T | undefined
  return {
    periodStart: optional(row.period_start),
    model: optional(row.model),
    userId: optional(row.user_id),
    kind: optional(row.kind),
    provider: optional(row.provider),
    currency: row.currency as string,
    events: Number(row.events),
    tokens: Number(row.tokens),
    inputTokens: Number(row.input_tokens),
    outputTokens: Number(row.output_tokens),
    cachedInputTokens: Number(row.cached_input_tokens),
    cacheWriteTokens: Number(row.cache_write_tokens),
    embeddingTokens: Number(row.embedding_tokens),
    images: Number(row.images),
    toolCalls: Number(row.tool_calls),
    units: row.units as Record<string, number>,
    cost: row.cost as string,
    p50Ms: optional(row.p50_ms),
    p95Ms: optional(row.p95_ms),
    p99Ms: optional(row.p99_ms),
  }
}
