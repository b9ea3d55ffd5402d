/** Runs one benchmark: `npm run bench -- <name>` runs test/bench/<name>.ts on a database of its own. */
import { globSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { createDatabase } from '../setup/databases.ts'
import type { Role } from '../setup/engine.ts'
import { startEngines } from '../setup/engines/choose.ts'
import type { ServerSettings } from '../setup/engines/cluster.ts'

/** What a benchmark gets. */
export interface BenchContext {
  /** Of the server. */
  readonly version: string
  /** Connection strings to a database in which rowhouse is installed. */
  readonly urls: Readonly<Partial<Record<Role, string>>>
  /** Further arguments of the command line. */
  readonly args: readonly string[]
}

/** A benchmark's file. */
interface BenchModule {
  readonly default: (context: BenchContext) => Promise<void>
  /** What its server is given, where that is started from binaries. */
  readonly settings?: ServerSettings
}

const [name, ...args] = process.argv.slice(2)
const benchmarks = globSync('*.ts', { cwd: import.meta.dirname })
  .map((file) => basename(file, '.ts'))
  .filter((file) => file !== 'run' && !file.endsWith('-support'))
  .sort()
if (name === undefined || !benchmarks.includes(name)) {
  console.error(`Usage: npm run bench -- <name>, where <name> is one of: ${benchmarks.join(', ')}`)
  process.exit(1)
}

const run = { id: `bench${process.pid.toString(36)}`, directory: mkdtempSync(join(tmpdir(), 'rowhouse-bench-')) }
const bench: BenchModule = await import(join(import.meta.dirname, `${name}.ts`))
const { engines, notes } = await startEngines(run.id, bench.settings)
try {
  for (const note of notes) console.log(note)
  const { engine } = engines[0]!
  const database = await createDatabase(engine, run, { name, migrated: true, ownServer: false })
  try {
    console.log(`${name}, on ${engine.name}\n`)
    await bench.default({ version: engine.version, urls: database.urls, args })
  } finally {
    await database.drop()
  }
} finally {
  for (const engine of engines) await engine.stop()
  rmSync(run.directory, { recursive: true, force: true })
}
