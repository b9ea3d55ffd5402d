import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestProject } from 'vitest/node'
import { withClient } from '../setup/connection.ts'
import { createDatabase } from '../setup/databases.ts'
import { startEngines } from '../setup/engines/choose.ts'

declare module 'vitest' {
  interface ProvidedContext {
    /** Connection string of the application. */
    appUrl: string
  }
}

/** A database with the tenant acme, on the first Postgres that is there, as in the tests of the project. */
export default async function setUp(project: TestProject): Promise<() => Promise<void>> {
  const run = { id: `compat${process.pid.toString(36)}`, directory: mkdtempSync(join(tmpdir(), 'rowhouse-compat-')) }
  const { engines } = await startEngines(run.id)
  const { engine } = engines[0]!
  console.log(`Postgres for the suites: ${engine.name}`)
  const database = await createDatabase(engine, run, { name: 'compat', migrated: true, ownServer: false })
  await withClient(database.urls.operator!, (operator) =>
    operator.query("set role rowhouse_admin; select rowhouse.provision_tenant('acme')"),
  )
  project.provide('appUrl', database.urls.app!)
  return async () => {
    await database.drop()
    for (const { stop } of engines) await stop()
    rmSync(run.directory, { recursive: true, force: true })
  }
}
