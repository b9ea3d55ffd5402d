/** How a request for a slot is made. */
export interface QueueRequest {
  /** How much of its share the tenant uses for it, in any unit that all requests of the queue have. Default 1. */
  readonly cost?: number | undefined
  /** How long to wait for a slot: up to a day. Default 30,000. */
  readonly deadlineMs?: number | undefined
  /** How long a slot is held at most without being renewed. Default 30,000. */
  readonly leaseMs?: number | undefined
  /** How long a place is kept while nobody asks for it. Default 15,000. */
  readonly keepMs?: number | undefined
}

/** What `acquire` and `run` take. */
export interface QueueRunOptions extends QueueRequest {
  /** Ends the waiting, and aborts the signal of the work. */
  readonly signal?: AbortSignal | undefined
}

/** What work in a slot gets. */
export interface QueuedWork {
  /** The id of the request. */
  readonly ticket: string
  /** Aborts when the caller gives up, or when the slot was lost. */
  readonly signal: AbortSignal
}

/** How a request stands. */
export interface QueuePosition {
  /** `gone`: it was given back, its deadline passed, or nobody renewed it in time. */
  readonly status: 'waiting' | 'running' | 'gone'
  /** Its place among the requests of the tenant that wait, from 1; 0 when it doesn't wait. */
  readonly place: number
  /** How many requests, of whomever, will probably get a slot before it. */
  readonly ahead: number
  /** In how many milliseconds it will probably get a slot, if they are held as long as lately; undefined: not known. */
  readonly estimatedWaitMs: number | undefined
}

/** How a tenant stands in a queue. */
export interface QueueUtilization {
  /** Its share while all slots are busy, next to those of others that wait. */
  readonly weight: number
  /** How many slots it holds at most; undefined: no limit. */
  readonly maxRunning: number | undefined
  /** How many of its requests wait at most. */
  readonly maxWaiting: number
  readonly running: number
  readonly waiting: number
}

/** How busy a queue is. */
export interface QueueLoad {
  readonly queue: string
  readonly slots: number
  readonly running: number
  readonly waiting: number
  /** Part of the slots that is in use, from 0 to 1; more when there are fewer slots than before. */
  readonly utilization: number
  /** Those that wait or hold slots. */
  readonly tenants: readonly TenantQueueLoad[]
}

/** How one tenant stands in a queue, for operators. */
export interface TenantQueueLoad {
  readonly tenantId: string
  readonly weight: number
  readonly maxRunning: number | undefined
  readonly running: number
  readonly waiting: number
}

/** The share of a tier in a queue. */
export interface QueueShare {
  /** While all slots are busy, tenants that wait get them in proportion to it: 0.001 to 1000. Default 1. */
  readonly weight?: number | undefined
  /** How many slots a tenant holds at most. Default: as many as its quotas of slots allow. */
  readonly maxRunning?: number | undefined
  /** How many of its requests wait at most. Default 10,000. */
  readonly maxWaiting?: number | undefined
}
