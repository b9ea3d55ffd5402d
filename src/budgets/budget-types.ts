import type { AuditEntryInput } from '../audit/audit-entry.ts'
import type { Units } from './units.ts'

/** A call that asks to begin. */
export interface AdmitRequest {
  /** New for each call. Repeating it while the call is at work returns the same admission. Default: a random one. */
  readonly requestId?: string | undefined
  /** The model that it uses; it needs a price. Without one, nothing but `money` costs money. */
  readonly model?: string | undefined
  /** The most that it can use. */
  readonly units?: Units | undefined
  /** How long the reservation lives unless it is extended, in milliseconds, up to a day. Default 60000. */
  readonly leaseMs?: number | undefined
  /** Name of a stored rate limit that it counts for, or `null` for none. Default `requests`. */
  readonly rateLimit?: string | null | undefined
  /** Whom the rate limit counts for: a user, a key. Default: the tenant as a whole. */
  readonly subject?: string | undefined
  /** What it is stopped with when too many calls fail, such as its provider. Default: the tenant as a whole. */
  readonly circuit?: string | undefined
}

/** An admitted call. */
export interface Admission {
  readonly requestId: string
  /** When the reservation ends, by the database's clock. */
  readonly expiresAt: Date
  /** The most that it can cost, exactly, such as `'0.0156'`. */
  readonly cost: string
  readonly currency: string
  /** Whether the call had been admitted before, by the same request id. */
  readonly duplicate: boolean
}

/** What is known of a call besides its units. */
export interface SettleDetails {
  /** What it was. Default `model_call` with a model, otherwise `call`. */
  readonly kind?: string | undefined
  readonly provider?: string | undefined
  readonly latencyMs?: number | undefined
  /** Whatever billing needs besides, up to 64 kB. */
  readonly metadata?: Readonly<Record<string, unknown>> | undefined
  /** Whether the call failed, which counts against its circuit. Default false. */
  readonly failed?: boolean | undefined
  /**
   * Writes an entry of the audit trail in the same transaction. The database fills in the request, the user, the model, the
   * tokens, the exact cost and the latency; the end of a call is about all its parts. Default: none is written.
   */
  readonly audit?: SettleAudit | undefined
}

/** What only the application knows of an AI response. */
export type SettleAudit = Pick<AuditEntryInput, 'action' | 'documents' | 'error' | 'detail'>

export interface SettleOptions extends SettleDetails {
  /** Names a partial settlement, after which the call goes on. Without it the call has ended. */
  readonly part?: string | undefined
}

/** What a settlement booked. */
export interface Settlement {
  readonly requestId: string
  /** What it cost, exactly. */
  readonly cost: string
  readonly currency: string
  /** Whether it had been settled before; nothing was booked now. */
  readonly duplicate: boolean
  /** Quotas whose soft limit was crossed by it. */
  readonly crossed: readonly string[]
}

/** A soft limit that a tenant used up. */
export interface CrossedSoftLimit {
  /** The quota. */
  readonly name: string
  readonly periodStart: Date
  /** What was used by then. */
  readonly used: number
  readonly softLimit: number
  readonly crossedAt: Date
}

/** What was given back of things that went away. */
export interface GivenBack {
  /** By unit, as the database names it; less than asked for when no more was used. */
  readonly givenBack: Readonly<Record<string, number>>
  /** Whether it had been given back before; nothing was booked now. */
  readonly duplicate: boolean
}

/** Why a quota or a budget refused a call. */
export interface QuotaDenial {
  readonly quota: string
  /** What the quota counts, such as `tokens` or `money`. */
  readonly metric: string
  readonly limit: number
  readonly used: number
  /** What calls at work may still use. */
  readonly reserved: number
  readonly requested: number
  /** Milliseconds until it fits at the latest; undefined when time alone does not help. */
  readonly retryAfterMs: number | undefined
}

/** A circuit of a tenant: what stops its calls when too many fail or money runs away. */
export interface CircuitStatus {
  /** Empty: all calls of the tenant. */
  readonly circuit: string
  /** `half_open`: one call tries; its outcome closes or opens the circuit. */
  readonly status: 'closed' | 'open' | 'half_open'
  readonly reason: string | undefined
  /** When the next call may try; undefined: not before it is reset. */
  readonly retryAt: Date | undefined
  /**
   * Calls that ended in the present window, those that failed, and what was spent, parts of calls at work included. What
   * is spent by calls of any circuit, and what is recorded, counts for the tenant as a whole, too.
   */
  readonly calls: number
  readonly errors: number
  readonly spent: number
}

/** A quota of a tenant, and how it stands. */
export interface QuotaStatus {
  readonly name: string
  readonly metric: string
  readonly period: QuotaPeriod
  /** Only of a rolling quota. */
  readonly windowMs: number | undefined
  /** Whether the limit is the tenant's own, that of its tier, or that of all tiers. */
  readonly source: 'tenant' | 'tier' | 'default'
  /** Undefined: unlimited. */
  readonly limit: number | undefined
  readonly softLimit: number | undefined
  readonly used: number
  readonly reserved: number
  /** What was used beyond the limit, by calls that used more than they had reserved or settled after their lease. */
  readonly overrun: number
  /** Undefined: unlimited. `used + reserved + free` is `limit`, unless there is overrun. */
  readonly free: number | undefined
  readonly periodStart: Date
  /** Undefined: it never starts anew. */
  readonly periodEnd: Date | undefined
}

/**
 * `hour` to `year` of the calendar, in the time zone of the tenant; `rolling`: any period of a length; `total`: never
 * starts anew; `request`: the amount of a single call.
 */
export type QuotaPeriod = 'request' | 'hour' | 'day' | 'week' | 'month' | 'year' | 'total' | 'rolling'
