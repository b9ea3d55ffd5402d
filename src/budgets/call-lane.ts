import { type Kysely, type RawBuilder, sql } from 'kysely'
import { runWithoutAmbientTenant } from '../context/current-tenant.ts'
import { isDatabaseError } from '../context/pg-internals.ts'

/** Calls of one statement at most, which bounds how long it holds the account of its tenant. */
const MAX_CALLS = 32

/** A call of a function, such as `rowhouse.release('req-1', false)`, and where its answer goes. */
interface WaitingCall {
  readonly call: RawBuilder<any>
  readonly resolve: (answer: any) => void
  readonly reject: (error: unknown) => void
}

/**
 * Brings concurrent calls of one tenant together. The database decides on them one after another anyway, so those that
 * come while one is on its way go together in the next statement: they share its round trip, its lock and its commit.
 *
 * Each gets its own answer. An error undoes the whole statement, and then each call runs alone and gets its own error.
 */
class CallLane {
  readonly #db: Kysely<any>
  #waiting: WaitingCall[] = []
  #running = false

  constructor(db: Kysely<any>) {
    this.#db = db
  }

  run<T>(call: RawBuilder<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ call, resolve, reject })
      if (!this.#running) void runWithoutAmbientTenant(() => this.#runWaiting())
    })
  }

  async #runWaiting(): Promise<void> {
    this.#running = true
    while (this.#waiting.length > 0) {
      const calls = this.#waiting
      this.#waiting = calls.splice(MAX_CALLS)
      await this.#runTogether(calls)
    }
    this.#running = false
  }

  async #runTogether(calls: readonly WaitingCall[]): Promise<void> {
    try {
      const answers = await callFunctions(
        this.#db,
        calls.map(({ call }) => call),
      )
      for (const [number, { resolve }] of calls.entries()) resolve(answers[number])
    } catch (error) {
      if (calls.length > 1 && isUndone(error)) await Promise.all(calls.map((call) => this.#runTogether([call])))
      else for (const { reject } of calls) reject(error)
    }
  }
}

/** Calls functions one after another in one statement; returns what they return. */
async function callFunctions(db: Kysely<any>, calls: readonly RawBuilder<any>[]): Promise<unknown[]> {
  const columns = calls.map((call, number) => sql`${call} as ${sql.ref(`answer${number}`)}`)
  const { rows } = await sql<Record<string, unknown>>`select ${sql.join(columns)}`.execute(db)
  return calls.map((_, number) => rows[0]![`answer${number}`])
}

/** Whether the server said that the statement failed, so that it did nothing; nobody knows when a connection breaks. */
function isUndone(error: unknown): boolean {
  const raised = error instanceof Error && isDatabaseError(error.cause) ? error.cause : error
  return isDatabaseError(raised) && raised.severity === 'ERROR'
}

const LANES = new WeakMap<Kysely<any>, CallLane>()

/** Calls a function of rowhouse through a handle whose statements are transactions of their own. */
export function callTogether<T>(db: Kysely<any>, call: RawBuilder<T>): Promise<T> {
  let lane = LANES.get(db)
  if (lane === undefined) {
    lane = new CallLane(db)
    LANES.set(db, lane)
  }
  return lane.run(call)
}

/** Calls a function of rowhouse, alone in its statement. */
export async function callAlone<T>(db: Kysely<any>, call: RawBuilder<T>): Promise<T> {
  const [answer] = await callFunctions(db, [call])
  return answer as T
}
