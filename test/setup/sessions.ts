/**
 * Several real connections in a chosen order. Tests that need one to wait for another need('parallelBackends').
 *
 * @example
 * ```ts
 * const { writer, eraser } = await openSessions(database, { writer: 'app', eraser: 'operator' })
 * await writer.run('begin; insert ...')
 * const erasing = eraser.run("select rowhouse.erase_tenant('acme')")
 * await waitUntilBlocked(eraser)
 * await writer.run('commit')
 * await erasing
 * ```
 */
import type pg from 'pg'
import { poll } from './connection.ts'
import { backendOf, observer, type TestDatabase } from './database.ts'
import type { Role } from './engine.ts'

type Work<T = unknown> = string | ((client: pg.Client) => Promise<T>)

/** A named connection. */
export interface Session {
  readonly name: string
  readonly client: pg.Client
  /** Runs SQL or a function now. Don't await it when it is meant to wait for another session. */
  run(work: Work): Promise<unknown>
  /** Something for `schedule` to run later. */
  step(work: Work, label?: string): Step
}

export interface Step {
  readonly session: Session
  readonly label: string
  run(): Promise<unknown>
}

/** Opens one connection per name. */
export async function openSessions<Name extends string>(
  database: TestDatabase,
  roles: Readonly<Record<Name, Role>>,
): Promise<Record<Name, Session>> {
  const sessions: Partial<Record<Name, Session>> = {}
  for (const [name, role] of Object.entries(roles) as [Name, Role][]) {
    sessions[name] = makeSession(name, await database.connect(role, { application_name: name }))
  }
  return sessions as Record<Name, Session>
}

function makeSession(name: string, client: pg.Client): Session {
  const session: Session = {
    name,
    client,
    run: async (work) => (typeof work === 'string' ? client.query(work) : work(client)),
    step: (work, label = typeof work === 'string' ? work : work.name || 'step') => ({
      session,
      label: `${name}: ${label}`,
      run: () => session.run(work),
    }),
  }
  return session
}

/** How a step of a schedule went. */
export interface Outcome {
  readonly label: string
  /** Whether it had to wait for another session's lock. */
  waited: boolean
  value?: unknown
  error?: Error
}

/**
 * Runs steps one after the other, in this order. A step that waits for a lock is left waiting and the next step of
 * another session runs; steps of the waiting session come as soon as it can go on. Outcomes are in the order in which
 * the steps began; an error of a step is its outcome. Throws when everybody waits for ever.
 */
export async function schedule(steps: readonly Step[], { timeoutMs = 10_000 } = {}): Promise<Outcome[]> {
  const outcomes: Outcome[] = []
  const waiting = new Map<Session, Promise<unknown>>()
  const left = [...steps]
  while (left.length > 0) {
    const index = left.findIndex(({ session }) => !waiting.has(session))
    if (index === -1) {
      await within(timeoutMs, Promise.race(waiting.values()), () => `waits for ever: ${left[0]!.label}`)
      continue
    }
    const [step] = left.splice(index, 1) as [Step]
    const { session } = step
    const outcome: Outcome = { label: step.label, waited: false }
    outcomes.push(outcome)
    let done = false
    const running = step
      .run()
      .then(
        (value) => Object.assign(outcome, { value }),
        (error: Error) => Object.assign(outcome, { error }),
      )
      .finally(() => {
        done = true
        waiting.delete(session)
      })
    waiting.set(session, running)
    const probe = async () => (done ? false : (await blockersOf(pidOf(session))) && true)
    const message = () => `neither ends nor waits for a lock: ${step.label}`
    outcome.waited = await poll(probe, { message, timeoutMs })
  }
  await within(timeoutMs, Promise.all(waiting.values()), () => 'the last steps wait for ever')
  return outcomes
}

/** All orders in which the steps of several sessions can meet; each session's own steps keep theirs. */
export function interleavings(...sequences: (readonly Step[])[]): Step[][] {
  const rest = sequences.filter((sequence) => sequence.length > 0)
  if (rest.length === 0) return [[]]
  return rest.flatMap((sequence) => {
    const [first, ...others] = sequence as [Step, ...Step[]]
    const remaining = rest.map((other) => (other === sequence ? others : other))
    return interleavings(...remaining).map((order) => [first, ...order])
  })
}

/** Returns once this connection waits for another one's lock, with the process ids of those it waits for. */
export async function waitUntilBlocked(
  who: Session | pg.ClientBase | number,
  { timeoutMs = 5000 }: { timeoutMs?: number } = {},
): Promise<number[]> {
  const pid = pidOf(who)
  return poll(() => blockersOf(pid), { message: () => `backend ${pid} did not wait for a lock`, timeoutMs })
}

async function blockersOf(pid: number): Promise<number[] | undefined> {
  const { rows } = await observer().query<{ pids: number[] }>('select pg_blocking_pids($1) as pids', [pid])
  const pids = rows[0]!.pids
  return pids.length === 0 ? undefined : pids
}

function pidOf(who: Session | pg.ClientBase | number): number {
  if (typeof who === 'number') return who
  return backendOf('client' in who ? who.client : who)
}

async function within<T>(ms: number, work: Promise<T>, message: () => string): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(message())), ms)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}
