import { basename } from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, inject, TestRunner } from 'vitest'
import { type CreatedDatabase, createDatabase } from './databases.ts'
import type { Engine, Role } from './engine.ts'
import { currentSuite, type Need, setEngine, whyNone, whyNot } from './needs.ts'

export interface DatabaseOptions {
  /** What every test of the file needs. The file takes the first engine that has it, or is skipped with the reason. */
  readonly needs?: readonly Need[]
  /** Whether rowhouse and pgvector are installed; without, the database is empty. Default true. */
  readonly migrated?: boolean
  /**
   * A server that no other file uses and that never had the roles of rowhouse, for tests that change what belongs to
   * the whole server. The database is empty. Starts in about 1 s. Default false.
   */
  readonly ownServer?: boolean
}

/**
 * Gives the test file, or the `describe` it is called in, a database of its own: created before the first test, dropped
 * after the last one. Call it at the top, before hooks of the file that use it.
 *
 * @example
 * ```ts
 * const database = useDatabase()
 *
 * test('the application sees nothing without a tenant', async () => {
 *   const client = await database.connect('app')
 *   ...
 * })
 * ```
 */
export function useDatabase({ needs = [], migrated = true, ownServer = false }: DatabaseOptions = {}): TestDatabase {
  const wanted: Need[] = ownServer ? [...needs, 'ownServer'] : [...needs]
  const engines = inject('engines')
  const engine = engines.find((candidate) => whyNot(candidate, wanted) === undefined)
  setEngine(engine ?? engines[0]!)
  const database = new TestDatabase(engine ?? engines[0]!)
  if (engine === undefined) {
    skipSuite(whyNone(engines, wanted))
    return database
  }
  const { file } = currentSuite()
  beforeAll(async () => {
    const name = basename(file.filepath, '.test.ts').replaceAll(/\W/g, '_').slice(0, 24)
    database.open(await createDatabase(engine, inject('run'), { name, migrated: migrated && !ownServer, ownServer }))
  })
  afterAll(async () => {
    const failed = file.tasks.some(({ result }) => result?.state === 'fail')
    await database.close({ keep: failed && engine.kind === 'url' })
  })
  return database
}

/** Skips what follows in the current suite; hooks of a suite with skipped tests only don't run. */
function skipSuite(skipReason: string): void {
  const collector = TestRunner.getCurrentSuite()
  collector.options = { ...collector.options, skip: true, meta: { skipReason } }
  currentSuite().meta.skipReason = skipReason
}

/** The database of a test file. Everything opened through it is closed with it. */
export class TestDatabase {
  /** What runs it, and what that can do. */
  readonly engine: Engine
  #created: CreatedDatabase | undefined
  readonly #clients: pg.Client[] = []
  readonly #pools: { pool: pg.Pool; busy: Set<pg.PoolClient> }[] = []
  /** Backends of all clients opened through it. */
  readonly #backends = new Set<number>()

  constructor(engine: Engine) {
    this.engine = engine
  }

  /** Its name on the server. */
  get name(): string {
    return new URL(this.url('owner')).pathname.slice(1)
  }

  /** Connection string of a login. Where roles aren't real (PGlite) all are the superuser's. */
  url(role: Role = 'app'): string {
    const url = this.#opened().urls[role]
    if (url === undefined) throw new Error(`no ${role} login here; the test needs('${role}')`)
    return url
  }

  /** A connected client, ended with the file at the latest. */
  async connect(role: Role = 'app', config: pg.ClientConfig = {}): Promise<pg.Client> {
    const client = new pg.Client({ connectionString: this.url(role), application_name: `test ${role}`, ...config })
    // A test may end its backend; the next query says so.
    client.on('error', () => {})
    await client.connect()
    this.#clients.push(client)
    this.#backends.add(backendOf(client))
    return client
  }

  /** A pool, ended with the file at the latest; clients not released by then fail the file. */
  pool(role: Role = 'app', config: pg.PoolConfig = {}): pg.Pool {
    const pool = new pg.Pool({ connectionString: this.url(role), application_name: `test pool ${role}`, ...config })
    const busy = new Set<pg.PoolClient>()
    pool.on('error', () => {})
    pool.on('connect', (client) => this.#backends.add(backendOf(client)))
    pool.on('acquire', (client) => busy.add(client))
    pool.on('release', (_error, client) => busy.delete(client))
    this.#pools.push({ pool, busy })
    return pool
  }

  /** @internal */
  open(created: CreatedDatabase): void {
    this.#created = created
    watched = { database: this }
  }

  /** Ends what is open, drops the database, and throws if somebody else left a connection open. @internal */
  async close({ keep }: { keep: boolean }): Promise<void> {
    const created = this.#created
    if (created === undefined) return
    const problems: string[] = []
    for (const { pool, busy } of this.#pools) {
      if (busy.size > 0) problems.push(`${busy.size} client(s) of a pool were not released`)
      // Otherwise end() waits for them.
      for (const client of busy) client.release(true)
      if (!pool.ended) await pool.end()
    }
    // Not awaited, and not held against the file: a client may wait for a lock, or be cut off by a test.
    for (const client of this.#clients) client.end().catch(() => {})
    problems.push(...(await created.openConnections(this.#backends)))
    if (keep) console.log(`Kept, because a test failed: ${this.url('owner')}`)
    else await created.drop()
    if (problems.length > 0) throw new Error(`The file left connections open: ${problems.join('; ')}`)
  }

  #opened(): CreatedDatabase {
    if (this.#created === undefined) throw new Error('the database exists from beforeAll on')
    return this.#created
  }
}

let watched: { database: TestDatabase; pool?: pg.Pool } | undefined

/** One connection to watch others from: as the owner, to the file's database. */
export function observer(): pg.Pool {
  if (watched === undefined) throw new Error('the file has no database: call useDatabase()')
  watched.pool ??= watched.database.pool('owner', { max: 1, application_name: 'observer' })
  return watched.pool
}

/** The process id of a client's backend; node-postgres keeps it without declaring it. */
export function backendOf(client: pg.ClientBase): number {
  return (client as pg.ClientBase & { processID: number }).processID
}
