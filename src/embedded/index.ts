/**
 * Embedded Postgres: a real PostgreSQL with pgvector inside the Node process, for demonstrations, development and
 * tests on a machine that has nothing but Node.
 *
 * It is PGlite (PostgreSQL compiled to WebAssembly) behind a TCP socket on the loopback interface, so that every
 * Postgres client can connect. All connections share one backend session; see {@link startEmbeddedPostgres}.
 *
 * @module
 */
import { resolve } from 'node:path'
import { createRowhouseError } from '../errors.ts'
import { type DataFolderLock, lockDataFolder } from './data-folder-lock.ts'
import { loadEmbeddedPackages } from './packages.ts'
import { SharedSession } from './shared-session.ts'

export interface EmbeddedPostgresOptions {
  /** Folder that keeps the database between runs; created when missing. Without it the database lives in memory. */
  readonly dataDir?: string
  /** TCP port on 127.0.0.1. Without it, or with 0, a free one. */
  readonly port?: number
}

/** A running embedded Postgres. */
export interface EmbeddedPostgres {
  /** What any Postgres client connects with; the host is 127.0.0.1 and TLS is off. */
  readonly connectionString: string
  readonly port: number
  /**
   * Cuts the connections that are open, rolls back what they left open and stops the server. Close your pools first:
   * node-postgres reports a cut connection as an error. Calling it again is harmless.
   */
  close(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

/** Above this many connections the socket server answers with text that no Postgres client understands. */
const MAX_CONNECTIONS = 10_000

/**
 * Starts a Postgres with pgvector inside this process. Takes about two seconds for a new database and a quarter of a
 * second for an existing `dataDir`.
 *
 * It is for one process and one developer, not for production:
 * - One transaction runs at a time; other connections wait. Never await a second connection inside a transaction.
 * - Connections share one session: settings made with plain `set`, named prepared statements, temporary tables and
 *   session-level advisory locks of one are those of all. `set local` and transaction-level locks are safe.
 * - The login is the superuser `postgres` without a password, reachable by every user of this machine.
 * - `statement_timeout`, query cancellation, `LISTEN` and `COPY ... FROM STDIN` have no effect or don't work.
 *
 * Needs `@electric-sql/pglite`, `@electric-sql/pglite-socket` and `@electric-sql/pglite-pgvector`, which rowhouse
 * doesn't install by itself.
 *
 * @throws {RowhouseError} when a package is missing, the port is taken or another process uses `dataDir`.
 * @example
 * ```ts
 * await using postgres = await startEmbeddedPostgres()
 * await using rowhouse = createRowhouse({ connectionString: postgres.connectionString })
 * await rowhouse.migrate()
 * ```
 *
 * SQL that runs: `create extension if not exists vector`
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions = {}): Promise<EmbeddedPostgres> {
  checkPort(options.port ?? 0)
  const { PGlite, PGLiteSocketServer, vector } = await loadEmbeddedPackages()
  const dataDir = options.dataDir === undefined ? undefined : resolve(options.dataDir)
  const lock: DataFolderLock | undefined = dataDir === undefined ? undefined : lockDataFolder(dataDir)
  let database: InstanceType<typeof PGlite> | undefined
  try {
    database = await PGlite.create({ extensions: { vector }, ...(dataDir === undefined ? {} : { dataDir }) })
    await database.exec('create extension if not exists vector')

    const session = new SharedSession(database)
    const server = new PGLiteSocketServer({
      db: session.asDatabase(),
      host: '127.0.0.1',
      port: options.port ?? 0,
      maxConnections: MAX_CONNECTIONS,
    })
    session.countWaiting = () => server.getStats().queuedQueries
    await server.start()

    const port = Number(server.getServerConn().split(':').at(-1))
    let closing: Promise<void> | undefined
    const shutDown = async (running: NonNullable<typeof database>): Promise<void> => {
      await session.end()
      await server.stop()
      await running.close()
      lock?.release()
    }
    const running = database
    const close = (): Promise<void> => {
      closing ??= shutDown(running)
      return closing
    }
    return {
      connectionString: `postgres://postgres:postgres@127.0.0.1:${port}/postgres?sslmode=disable`,
      port,
      close,
      [Symbol.asyncDispose]: close,
    }
  } catch (error) {
    await database?.close().catch(() => {})
    lock?.release()
    throw explainStartFailure(error, options)
  }
}

function checkPort(port: number): void {
  if (Number.isInteger(port) && port >= 0 && port <= 65_535) return
  throw createRowhouseError('invalid_argument', `The port must be an integer from 0 to 65535, not ${port}.`)
}

function explainStartFailure(error: unknown, options: EmbeddedPostgresOptions): unknown {
  if (error instanceof Error && (error as NodeJS.ErrnoException).code === 'EADDRINUSE') {
    return createRowhouseError('connection_failed', `Port ${options.port} on 127.0.0.1 is in use.`, {
      cause: error,
      hint: 'Leave `port` out to get a free one.',
    })
  }
  return error
}
