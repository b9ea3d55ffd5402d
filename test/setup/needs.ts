import { inject, type RunnerTestSuite as Suite, type TestOptions, TestRunner } from 'vitest'
import type { Capabilities, Engine } from './engine.ts'

/** Something an engine can do, or the oldest version it may have, such as `postgres 16`. */
export type Need = keyof Capabilities | `postgres ${number}`

const MEANING: Readonly<Record<keyof Capabilities, string>> = {
  parallelBackends: 'several backends at once',
  realRoles: 'logins that are no superuser',
  pgvector: 'pgvector',
  superuser: 'a superuser login',
  ownServer: 'a server of its own',
}

declare module 'vitest' {
  interface TaskMeta {
    /** Why a test was skipped; the closing lines count the tests of each reason. */
    skipReason?: string
  }
}

const engines = new WeakMap<Suite, Engine>()

/** Called by `useDatabase`: the engine of the suite it is called in, and of those inside. */
export function setEngine(engine: Engine): void {
  engines.set(currentSuite(), engine)
}

/** The engine of the nearest `useDatabase`, else the run's first. */
export function currentEngine(): Engine {
  for (let suite: Suite | undefined = currentSuite(); suite !== undefined; suite = suite.suite ?? parentFile(suite)) {
    const engine = engines.get(suite)
    if (engine !== undefined) return engine
  }
  return inject('engines')[0]!
}

/** The `describe` whose body runs, or the file. */
export function currentSuite(): Suite {
  const collector = TestRunner.getCurrentSuite()
  return collector.suite ?? collector.file
}

function parentFile(suite: Suite): Suite | undefined {
  return suite === suite.file ? undefined : suite.file
}

/**
 * Options of a test or a `describe` that not every engine can run. Where one can't, it is skipped and the reason is
 * counted in the closing lines. To be called after `useDatabase`.
 *
 * @example
 * ```ts
 * test('the second session waits', needs('parallelBackends'), async () => { ... })
 * ```
 */
export function needs(...wanted: readonly Need[]): TestOptions {
  const reason = whyNot(currentEngine(), wanted)
  return reason === undefined ? {} : { skip: true, meta: { skipReason: reason } }
}

/** Why an engine can't run what needs all of `wanted`; undefined when it can. */
export function whyNot(engine: Engine, wanted: readonly Need[]): string | undefined {
  const missing = wanted.find((need) => !satisfies(engine, need))
  return missing && `needs ${meaning(missing)}, which this engine has not: ${engine.name}`
}

/** Why none of several engines can. */
export function whyNone(engines: readonly Engine[], wanted: readonly Need[]): string {
  const [first, ...others] = engines
  if (others.length === 0) return whyNot(first!, wanted)!
  const names = engines.map(({ name }) => name).join(', ')
  return `needs ${wanted.map(meaning).join(' and ')}, which none of these has: ${names}`
}

function meaning(need: Need): string {
  return need in MEANING ? MEANING[need as keyof Capabilities] : `${need} or newer`
}

function satisfies(engine: Engine, need: Need): boolean {
  if (need in MEANING) return engine[need as keyof Capabilities]
  return Number.parseInt(engine.version, 10) >= Number(need.split(' ')[1])
}
