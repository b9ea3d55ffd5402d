import type { PGlite } from '@electric-sql/pglite'

/** Types of the messages that a client sends before `Sync`: Parse, Bind, Describe, Execute, Close, Flush. */
const UNFINISHED = new Set('PBDECH'.split('').map((letter) => letter.charCodeAt(0)))
/** Types of the messages after which the server answers ReadyForQuery: Sync, Query, Function call. */
const FINISHED = new Set('SQF'.split('').map((letter) => letter.charCodeAt(0)))

const SYNC = new Uint8Array([0x53, 0, 0, 0, 4])

/** After this long in an idle transaction, with others waiting for it, a warning says so. */
const IDLE_WARNING_MILLISECONDS = 3_000

/**
 * The one PGlite session as the socket server sees it. The server (0.2.17) gives the session to another connection
 * between any two messages outside of a transaction, which has two consequences that this class prevents:
 *
 * - A client's `Parse` replaces the unnamed statement of another whose `Bind` is still on its way (a value of more
 *   than 64 kB is enough): the other then executes a statement that isn't its own. So a series of messages counts as
 *   a transaction until its `Sync`.
 * - A message that PGlite can't process throws, and the server's queue never runs again. So the failure becomes an
 *   answer.
 */
export class SharedSession {
  /** How many messages of other connections wait; set once the server exists. */
  countWaiting: () => number = () => 0

  readonly #database: PGlite
  #seriesOpen = false
  #ended = false
  #idleTimer: NodeJS.Timeout | undefined

  constructor(database: PGlite) {
    this.#database = database
  }

  /** The members of PGlite that the socket server uses. */
  asDatabase(): PGlite {
    const members: Pick<PGlite, 'waitReady' | 'isInTransaction' | 'runExclusive' | 'execProtocolRawStream' | 'exec'> = {
      waitReady: this.#database.waitReady,
      isInTransaction: () => !this.#ended && (this.#seriesOpen || this.#database.isInTransaction()),
      runExclusive: (work) => this.#database.runExclusive(work),
      execProtocolRawStream: (message, options) => this.#execute(message, options),
      exec: () => this.#rollBack(),
    }
    return members as unknown as PGlite
  }

  /** Rolls back what a connection left open. No message reaches PGlite after this. */
  async end(): Promise<void> {
    await this.#rollBack()
    this.#ended = true
    clearTimeout(this.#idleTimer)
  }

  async #execute(...[message, options]: Parameters<PGlite['execProtocolRawStream']>): Promise<void> {
    clearTimeout(this.#idleTimer)
    if (this.#ended) return
    const type = message[0] ?? 0
    if (UNFINISHED.has(type)) this.#seriesOpen = true
    try {
      await this.#database.execProtocolRawStream(message, options)
    } catch (error) {
      options.onRawData?.(fatalErrorResponse(error instanceof Error ? error.message : String(error)))
    }
    if (FINISHED.has(type)) this.#seriesOpen = false
    if (!this.#ended && this.#database.isInTransaction()) this.#watchIdleTransaction()
  }

  /** The server asks for this when a connection went away and left a transaction or a series open. */
  async #rollBack(): Promise<[]> {
    if (this.#ended) return []
    clearTimeout(this.#idleTimer)
    // After an error Postgres skips everything up to Sync, a rollback included.
    if (this.#seriesOpen) {
      await this.#database.runExclusive(() => this.#database.execProtocolRawStream(SYNC, { onRawData: () => {} }))
    }
    this.#seriesOpen = false
    if (this.#database.isInTransaction()) await this.#database.exec('rollback')
    return []
  }

  #watchIdleTransaction(): void {
    this.#idleTimer = setTimeout(() => {
      if (this.countWaiting() === 0) return
      process.emitWarning(
        'A transaction on the embedded Postgres is idle while other connections wait for it. It runs one transaction ' +
          'at a time: inside a transaction, use no second connection.',
        { code: 'ROWHOUSE_EMBEDDED_IDLE_TRANSACTION' },
      )
    }, IDLE_WARNING_MILLISECONDS).unref()
  }
}

/** An ErrorResponse of severity FATAL, in the wire format of Postgres. */
function fatalErrorResponse(message: string): Uint8Array {
  const fields = Buffer.from(`SFATAL\0VFATAL\0CXX000\0M${message}\0\0`, 'utf8')
  const response = Buffer.alloc(5 + fields.length)
  response.write('E', 0, 'latin1')
  response.writeInt32BE(4 + fields.length, 1)
  fields.copy(response, 5)
  return response
}
