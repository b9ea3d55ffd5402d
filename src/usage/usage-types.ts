/** What usage is broken down by: any of these, and at most one of `hour`, `day` and `month`. */
export type UsageDimension = 'model' | 'user' | 'kind' | 'provider' | 'hour' | 'day' | 'month'

/**
 * A span of time; what occurred at `from` is in it, what occurred at `to` is not, so spans that touch have no event in
 * common. More than 31 days ago, where events may be deleted, reports begin and end on a full quarter of an hour.
 */
export interface UsageSpan {
  /** Default: 30 days ago. */
  readonly from?: Date | undefined
  /** Until then, exclusive. Default: now. */
  readonly to?: Date | undefined
}

export interface UsageReportOptions extends UsageSpan {
  /** Default: `model`. */
  readonly by?: readonly UsageDimension[] | undefined
}

/** A line of a report. What it is not broken down by is undefined; empty text: none. */
export interface UsageLine {
  /** Beginning of the hour, day or month, in the time zone of the tenant. */
  readonly periodStart: Date | undefined
  readonly model: string | undefined
  readonly userId: string | undefined
  readonly kind: string | undefined
  readonly provider: string | undefined
  readonly currency: string
  /** Calls. */
  readonly events: number
  /** In all: of every kind, and those of no kind. */
  readonly tokens: number
  readonly inputTokens: number
  readonly outputTokens: number
  readonly cachedInputTokens: number
  readonly cacheWriteTokens: number
  readonly embeddingTokens: number
  readonly images: number
  readonly toolCalls: number
  /** Everything else that was used, such as what a quota of the application counts. */
  readonly units: Readonly<Record<string, number>>
  /** Exactly, such as `'0.0156'`. */
  readonly cost: string
  /** Latencies in milliseconds, rounded up by at most 9 %; undefined when none is known. */
  readonly p50Ms: number | undefined
  readonly p95Ms: number | undefined
  readonly p99Ms: number | undefined
}

/** A line of a report over tenants. */
export interface TenantUsageLine extends UsageLine {
  readonly tenantId: string
}

/** Something that does not agree in the books. */
export interface UsageDifference {
  /** `counters`: quotas against events. `events`: costs against prices. `rollups`: quarters of an hour against events. */
  readonly book: 'counters' | 'events' | 'rollups'
  /** The quota, the request or the model. */
  readonly name: string
  readonly periodStart: Date
  /** What does not agree, such as a figure of a rollup. */
  readonly difference: string
  readonly counted: string | undefined
  readonly expected: string | undefined
}

/** One event, as it is exported. */
export interface UsageEvent {
  readonly requestId: string
  readonly part: string
  readonly kind: string
  readonly model: string | null
  readonly provider: string | null
  readonly userId: string | null
  readonly units: Readonly<Record<string, number>>
  readonly cost: string
  readonly currency: string
  readonly occurredAt: Date
  readonly recordedAt: Date
  readonly latencyMs: number | null
  readonly metadata: Readonly<Record<string, unknown>>
}

/** `csv` with a header line, or `cloudevents`: one CloudEvents 1.0 JSON object a line. */
export type UsageFormat = 'csv' | 'cloudevents'
