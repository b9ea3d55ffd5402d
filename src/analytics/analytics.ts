import { sql } from 'kysely'
import * as z from 'zod'
import type { TenantExecutor } from '../context/tenant-executor.ts'
import { parse } from '../documents/parse-documents.ts'
import { storableJson, storableText } from '../documents/parse-text.ts'
import { sweepInBatches } from '../sweep/sweep-in-batches.ts'
import { parseSpan } from '../usage/usage.ts'

/** What an event is told with; all of it may be left out. */
export interface TrackOptions {
  /** Where it happened, such as `web` or the name of an agent. */
  readonly source?: string | undefined
  /** Who did it. Default: the user of the context. */
  readonly actor?: string | undefined
  /** The run of an agent that it belongs to. */
  readonly runId?: string | undefined
  /** An event of an id is recorded once, so repeating it is safe. Default: a random one. */
  readonly eventId?: string | undefined
  /** Default: now, by the clock of the database. */
  readonly occurredAt?: Date | undefined
}

/** One of several events. */
export interface TrackedEvent extends TrackOptions {
  readonly event: string
  readonly properties?: Readonly<Record<string, unknown>> | undefined
}

/** What events are counted by: any of these, and at most one of `hour`, `day` and `month`. */
export type EventDimension = 'event' | 'source' | 'actor' | 'run' | 'hour' | 'day' | 'month'

export interface BreakdownOptions {
  /** Default: 30 days ago. */
  readonly from?: Date | undefined
  /** Until then, exclusive. Default: now. */
  readonly to?: Date | undefined
  /** Default: `event`. */
  readonly by?: readonly EventDimension[] | undefined
  /** Only this event. */
  readonly event?: string | undefined
}

/** A line of a breakdown. What it is not by is undefined; empty text: not told. */
export interface EventCount {
  /** Beginning of the hour, day or month, in the time zone of the tenant. */
  readonly periodStart: Date | undefined
  readonly event: string | undefined
  readonly source: string | undefined
  readonly actor: string | undefined
  readonly runId: string | undefined
  readonly events: number
  /** How many different actors they had. */
  readonly actors: number
}

const MAX_EVENTS = 1000
const trackedEvents = z
  .array(
    z.strictObject({
      event: storableText(100),
      properties: storableJson(65_536).optional(),
      source: storableText(100).optional(),
      actor: storableText(200).optional(),
      runId: storableText(200).optional(),
      eventId: storableText(200).optional(),
      occurredAt: z.date('is not a date').optional(),
    }),
  )
  .max(MAX_EVENTS, `are more than ${MAX_EVENTS}`)

/**
 * What happens in a tenant's use of your product: events, recorded once each, and counted.
 *
 * @example
 * ```ts
 * await acme.analytics.track('document.opened', { title: 'Handbook' }, { source: 'web', actor: 'u_1' })
 * const perDay = await acme.analytics.breakdown({ by: ['day', 'event'] })
 * ```
 */
export class Analytics {
  readonly #executor: TenantExecutor

  /** @internal */
  constructor(executor: TenantExecutor) {
    this.#executor = executor
  }

  /**
   * Records an event, in one round trip; inside `withTenant` with its transaction, or not at all.
   *
   * SQL: `select rowhouse.track_events('[{"event": "document.opened", ...}]')`
   *
   * Errors: `invalid_event`.
   *
   * @returns False when an event of this id was there already.
   */
  async track(
    event: string,
    properties: Readonly<Record<string, unknown>> = {},
    options: TrackOptions = {},
  ): Promise<boolean> {
    return (await this.trackAll([{ ...options, event, properties }])) === 1
  }

  /**
   * Records up to 1,000 events in one statement; all of them, or none when one is not accepted.
   *
   * SQL: `select rowhouse.track_events('[...]')`
   *
   * Errors: `invalid_event`.
   *
   * @returns How many were new.
   */
  async trackAll(events: readonly TrackedEvent[]): Promise<number> {
    const parsed = parse(trackedEvents, events, 'invalid_event', events.length === 1 ? 'The event' : 'The events')
    if (parsed.length === 0) return 0
    const json = parsed.map(({ properties = '{}', ...event }) => {
      const { length } = JSON.stringify(event)
      // Properties are JSON already.
      return `${JSON.stringify(event).slice(0, length - 1)},"properties":${properties}}`
    })
    const { rows } = await sql<{ recorded: number }>`
      select rowhouse.track_events(${`[${json.join(',')}]`}::jsonb) as recorded`.execute(this.#executor.db)
    return rows[0]!.recorded
  }

  /**
   * Counts events and their actors.
   *
   * SQL: `select * from rowhouse.event_breakdown('2026-11-01', '2026-12-01', '{day,event}')`
   *
   * Errors: `invalid_event` for what can't be a breakdown.
   */
  async breakdown({ from, to, by = ['event'], event }: BreakdownOptions = {}): Promise<EventCount[]> {
    const span = parseSpan({ from, to })
    const { rows } = await sql<Record<string, unknown>>`
      select * from rowhouse.event_breakdown(${span.from}, ${span.to}, ${[...by]}::text[], ${event ?? null})
    `.execute(this.#executor.db)
    const optional = <T>(value: unknown) => (value ?? undefined) as T | undefined
    return rows.map((row) => ({
      periodStart: optional(row.period_start),
      event: optional(row.event),
      source: optional(row.source),
      actor: optional(row.actor),
      runId: optional(row.run_id),
      events: Number(row.events),
      actors: Number(row.actors),
    }))
  }

  /**
   * Deletes events that are older than the tenant keeps them: `events` in the object `retentionDays` of its settings, else
   * by its tier.
   *
   * SQL: `select rowhouse.sweep_events($1)`
   *
   * @returns How many were deleted.
   */
  async sweep({ batchSize = 1000 }: { readonly batchSize?: number | undefined } = {}): Promise<number> {
    return sweepInBatches(this.#executor.db, sql`rowhouse.sweep_events(${batchSize})`)
  }
}
