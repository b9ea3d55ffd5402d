import { globSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestProject } from 'vitest/node'
import { startEngines } from './engines/choose.ts'

/** Starts the Postgres of the run, says which, and ends it afterwards. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  // Settings of the shell must not reach the clients under test.
  for (const name of Object.keys(process.env)) {
    if (/^PG[A-Z]+$/.test(name) || name === 'DATABASE_URL' || name === 'ROWHOUSE_TENANT_ID') delete process.env[name]
  }
  const begun = performance.now()
  const run = { id: Date.now().toString(36) + process.pid.toString(36), directory: makeRunDirectory() }
  const { engines, notes } = await startEngines(run.id)
  const seconds = ((performance.now() - begun) / 1000).toFixed(1)
  const [first, ...others] = engines.map(({ engine }) => engine)
  for (const note of notes) console.log(note)
  console.log(
    `Postgres for the tests: ${first!.name}, ready after ${seconds} s` +
      others.map(({ name }) => `; what needs pgvector runs on ${name}`).join(''),
  )
  project.provide('run', run)
  project.provide('engines', [first!, ...others])

  return async () => {
    for (const engine of engines) await engine.stop()
  }
}

/** A folder that is removed when this process ends, or by a later run if it was killed. */
function makeRunDirectory(): string {
  const prefix = join(tmpdir(), 'rowhouse-run-')
  for (const left of globSync(`${prefix}*`)) {
    if (!isRunning(Number(left.slice(prefix.length).split('-')[0]))) rmSync(left, { recursive: true, force: true })
  }
  const directory = mkdtempSync(`${prefix}${process.pid}-`)
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }))
  return directory
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    // EPERM: it runs, as another user.
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
