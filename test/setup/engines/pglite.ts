import { existsSync, readFileSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { poll, withClient } from '../connection.ts'
import type { Engine } from '../engine.ts'
import { type ServerProcess, startServerProcess } from './server-process.ts'

/** What the process of a PGlite is told. */
export interface PgliteOptions {
  /** A file written by its question `dump`, to start from. */
  readonly template?: string
}

/** What it answers. */
export interface PgliteReady {
  readonly port: number
}

/** A running PGlite: one test file's own server, database and session. */
export interface Pglite {
  readonly url: string
  /** Number of open sockets. */
  connections(): Promise<number>
  stop(): Promise<void>
}

/** PGlite as an engine; nothing runs yet. */
export function pgliteEngine(): Engine {
  // Its "exports" hides package.json, so the folder is found by way of the entry file.
  const entry = createRequire(import.meta.url).resolve('@electric-sql/pglite')
  const { version } = JSON.parse(readFileSync(join(dirname(entry), '../package.json'), 'utf8')) as { version: string }
  return {
    kind: 'pglite',
    name: `PGlite ${version} with pgvector`,
    // PostgreSQL 18 since PGlite 0.5.
    version: '18',
    parallelBackends: false,
    realRoles: false,
    pgvector: true,
    superuser: true,
    ownServer: true,
  }
}

/**
 * Starts a PGlite for one test file. The first file of a run that wants a migrated one migrates it (about 3 s) and
 * leaves a copy in the file `template`; all others start from the copy (about 1 s).
 */
export async function startPglite(
  template: string,
  migrate: ((connectionString: string) => Promise<unknown>) | undefined,
): Promise<Pglite> {
  if (await isFirst(template)) {
    try {
      const pglite = describe(await boot({}))
      if (migrate !== undefined) {
        // As everywhere in the tests the extension is there before rowhouse is.
        await withClient(pglite.url, (client) => client.query('create extension vector'))
        await migrate(pglite.url)
      }
      await pglite.process.ask('dump', template)
      return pglite
    } catch (error) {
      await writeFile(`${template}.failed`, String(error instanceof Error ? error.message : error))
      throw error
    }
  }
  await poll(() => (existsSync(template) || existsSync(`${template}.failed`) ? true : undefined), {
    message: () => `${template} was not written in time`,
    timeoutMs: 50_000,
    everyMs: 50,
  })
  if (!existsSync(template)) throw new Error('the first test file on PGlite could not prepare it; see its error')
  return describe(await boot({ template }))
}

async function isFirst(template: string): Promise<boolean> {
  try {
    await mkdir(`${template}.lock`)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  }
}

function boot(options: PgliteOptions): Promise<ServerProcess<PgliteReady>> {
  return startServerProcess<PgliteReady>(join(import.meta.dirname, 'pglite-process.ts'), options)
}

function describe(process: ServerProcess<PgliteReady>): Pglite & { process: ServerProcess<PgliteReady> } {
  return {
    process,
    url: `postgres://postgres@127.0.0.1:${process.ready.port}/postgres`,
    connections: () => process.ask<number>('connections'),
    stop: () => process.stop(),
  }
}
