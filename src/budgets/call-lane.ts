import { type Kysely, type RawBuilder, sql } from 'kysely'
import type pg from 'pg'
import { afterPromises } from '../context/after-promises.ts'
import { runWithoutAmbientTenant } from '../context/current-tenant.ts'
import { isDatabaseError, leavesSessionOpen } from '../context/pg-internals.ts'
import type { Caller } from '../context/tenant-executor.ts'

/** Calls of one statement at most, which bounds how long it holds the account of its tenant. */
const MAX_CALLS = 32

/** A call of a function, such as `rowhouse.release('req-1', false)`, and in whose name it is made. */
export interface CallOfCaller {
  readonly call: RawBuilder<any>
  readonly caller: Caller
}

/** A call that waits to be made, and where its answer goes. */
export interface WaitingCall extends CallOfCaller {
  readonly resolve: (answer: any) => void
  readonly reject: (error: unknown) => void
}

/**
 * Brings concurrent calls of one tenant together. The database decides on them one after another anyway, so those that
 * come while one is on its way go together in the next statement: they share its round trip, its lock and its commit.
 *
 * Each gets its own answer. An error undoes the whole statement; then its halves run one after the other, until the call
 * that is wrong is alone and gets the error.
 */
export class CallLane {
  readonly #db: Kysely<any>
  #waiting: WaitingCall[] = []
  #running = false

  constructor(db: Kysely<any>) {
    this.#db = db
  }

  get isRunning(): boolean {
    return this.#running
  }

  run(call: WaitingCall): void {
    this.#waiting.push(call)
    if (!this.#running) void runWithoutAmbientTenant(() => this.#runWaiting())
  }

  async #runWaiting(): Promise<void> {
    this.#running = true
    while (this.#waiting.length > 0) {
      await afterPromises()
      const calls = this.#waiting
      this.#waiting = calls.splice(MAX_CALLS)
      await this.#runTogether(calls)
    }
    this.#running = false
  }

  async #runTogether(calls: readonly WaitingCall[]): Promise<void> {
    try {
      const answers = await callFunctions(this.#db, calls)
      for (const [number, { resolve }] of calls.entries()) resolve(answers[number])
    } catch (error) {
      if (calls.length > 1 && isOfOneCall(error)) {
        const half = calls.length >> 1
        await this.#runTogether(calls.slice(0, half))
        await this.#runTogether(calls.slice(half))
      } else {
        for (const { reject } of calls) reject(error)
      }
    }
  }
}

/** Calls functions one after another in one statement, each in the name of its caller; returns what they return. */
async function callFunctions(db: Kysely<any>, calls: readonly CallOfCaller[]): Promise<unknown[]> {
  let [user, request] = ['', '']
  const columns = calls.map(({ call, caller: { userId = '', requestId = '' } }, number) => {
    const answer = sql.ref(`answer${number}`)
    if (userId === user && requestId === request) return sql`${call} as ${answer}`
    ;[user, request] = [userId, requestId]
    // What is behind `then` runs after the condition.
    return sql`case when rowhouse.set_caller(${userId}, ${requestId}) then ${call} end as ${answer}`
  })
  const { rows } = await sql<Record<string, unknown>>`select ${sql.join(columns)}`.execute(db)
  return calls.map((_, number) => rows[0]![`answer${number}`])
}

/** Conflicts, a lack of resources, locks that took too long, interventions of an operator, faults of the system. */
const CLASSES_OF_ALL = ['40', '53', '55', '57', '58', 'XX']

/**
 * Whether the server says that one of the calls is wrong. Then the others may do well without that one; what took too long
 * may take so long again.
 */
function isOfOneCall(error: unknown): boolean {
  return isUndone(error) && !CLASSES_OF_ALL.includes(databaseErrorOf(error)!.code!.slice(0, 2))
}

/** Whether the statement did nothing, for certain. When a connection breaks, nobody knows what was done. */
export function isUndone(error: unknown): boolean {
  const raised = databaseErrorOf(error)
  return raised !== undefined && leavesSessionOpen(raised)
}

/** What the server raised, if it is that. */
export function databaseErrorOf(error: unknown): pg.DatabaseError | undefined {
  const raised = error instanceof Error && isDatabaseError(error.cause) ? error.cause : error
  return isDatabaseError(raised) ? raised : undefined
}

const LANES = new WeakMap<Kysely<any>, CallLane>()

/** The lane of a handle whose statements are transactions of its tenant. */
export function laneOf(db: Kysely<any>): CallLane {
  let lane = LANES.get(db)
  if (lane === undefined) {
    lane = new CallLane(db)
    LANES.set(db, lane)
  }
  return lane
}

/** Calls a function of rowhouse, alone in its statement, in the name of whom its transaction says. */
export async function callAlone<T>(db: Kysely<any>, call: RawBuilder<T>): Promise<T> {
  const [answer] = await callFunctions(db, [{ call, caller: {} }])
  return answer as T
}
