import pg from 'pg'

/**
 * The parts of node-postgres that its type definitions leave out. They are the interface between its `Client`, its
 * `Query` and its `Connection`, which custom query classes such as pg-cursor rely on too.
 */

/** Writes protocol messages. */
export interface WireConnection {
  readonly stream: {
    readonly writable: boolean
    write(data: Uint8Array): unknown
    cork?(): void
    uncork?(): void
    destroy(): void
  }
  execute(message: { portal?: string; rows?: number }): void
  flush(): void
  sync(): void
}

/** What a query is while the client runs it: the client hands it each message that the server answers with. */
export interface RunningQuery {
  text: string
  values: unknown[] | undefined
  queryMode: 'extended' | undefined
  /** What has arrived of the result. */
  readonly _results: QueryResultRows
  /** The error of a type parser; true-ish until it has been reported. */
  readonly _canceledDueToError: unknown
  callback: ((error: unknown, result?: QueryResultRows) => void) | undefined
  submit(connection: WireConnection): Error | null
  /** Writes Parse, Bind and Describe of `text`, then calls `_getRows`. */
  prepare(connection: WireConnection): void
  /** Writes Execute and what ends the message. */
  _getRows(connection: WireConnection, rows: number | undefined): void
  handleDataRow(message: unknown): void
  handleCommandComplete(message: { text: string }, connection: WireConnection): void
  handleEmptyQuery(connection: WireConnection): void
  handleCopyInResponse(connection: WireConnection): void
  handleError(error: unknown, connection: WireConnection): void
  handleReadyForQuery(connection: WireConnection): void
}

/** The result of one statement. */
export interface QueryResultRows {
  readonly command: string | null
  readonly rowCount: number | null
  readonly rows: unknown[]
}

export type QueryClass = new (text: string, values: unknown[]) => RunningQuery

/** A checked-out client, with the members that the type definitions leave out. */
export type PoolClient = Omit<pg.PoolClient, 'query'> & {
  readonly connection: WireConnection
  readonly pipeline?: boolean
  readonly host: string
  readonly port: number
  readonly ssl: unknown
  readonly sslNegotiation?: string
  readonly user: string | undefined
  readonly processID: number | null
  readonly secretKey: number | null
  query(query: RunningQuery): unknown
  getTransactionStatus(): 'I' | 'T' | 'E' | null
}

/** The `Query` class of the client's own copy of node-postgres: pipelined clients accept only instances of it. */
export function queryClassOf(client: PoolClient): QueryClass {
  return (client.constructor as unknown as { Query: QueryClass }).Query
}

/** Turns a JavaScript value into what node-postgres sends for it; may throw, for example on circular JSON. */
export const prepareValue: (value: unknown) => unknown = (
  pg as unknown as { utils: { prepareValue(value: unknown): unknown } }
).utils.prepareValue

/** Whether the server raised the error, as opposed to node-postgres or the network. */
export function isDatabaseError(error: unknown): error is pg.DatabaseError {
  return error instanceof Error && typeof (error as pg.DatabaseError).severity === 'string'
}

/** With which a server ends a session. */
const SQLSTATES_OF_ENDED_SESSIONS = new Set(['25P03', '25P04', '57P01', '57P02', '57P03', '57P04', '57P05'])

/**
 * Whether the session goes on after an error of the server; then it undid the statement. By the SQLSTATE: the severity is
 * a word of the server's language.
 */
export function leavesSessionOpen({ code = '', severity }: pg.DatabaseError): boolean {
  const ends = severity === 'FATAL' || severity === 'PANIC' || code.startsWith('08')
  return !ends && !SQLSTATES_OF_ENDED_SESSIONS.has(code)
}
