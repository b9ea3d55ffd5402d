import pg, { type Client } from 'pg'
import { createRowhouseError, type RowhouseError } from '../errors.ts'
import { quoteIdentifier } from './quote-identifier.ts'

/** Where a connection goes; never the password. */
interface Target {
  readonly host: string
  readonly port: number
  readonly user: string
  readonly database: string
}

const EXAMPLE = 'postgres://user:password@localhost:5432/database'

/**
 * Connects, or throws `connection_failed` with one sentence that says what to mend. Messages name host, port, user and
 * database, never the password.
 */
export async function connect(connectionString: string, timeoutMs = 15_000): Promise<Client> {
  const client = createClient(connectionString, timeoutMs)
  // A backend that dies between two queries must not end the process.
  client.on('error', () => {})
  const target: Target = {
    host: client.host,
    port: client.port,
    user: client.user ?? '',
    database: client.database ?? '',
  }
  try {
    await client.connect()
    return client
  } catch (error) {
    await client.end().catch(() => {})
    throw describeConnectionError(error, target)
  }
}

function createClient(connectionString: string, timeoutMs: number): Client {
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(connectionString)?.[1]?.toLowerCase()
  if (scheme === undefined && !connectionString.startsWith('/')) {
    throw badConnectionString('is not a URL')
  }
  if (scheme !== undefined && !['postgres', 'postgresql', 'socket'].includes(scheme)) {
    throw badConnectionString(`begins with ${scheme}:, not with postgres:`)
  }
  if (hasStrayDelimiter(connectionString)) throw badConnectionString('has a character that is not percent-encoded')
  try {
    return new pg.Client({
      connectionString,
      connectionTimeoutMillis: timeoutMs,
      application_name: 'rowhouse',
      keepAlive: true,
    })
  } catch (error) {
    // The parser's own message may hold the password.
    const { code } = error as { code?: string }
    throw code === 'ENOENT'
      ? badConnectionString('names a certificate file that does not exist')
      : badConnectionString('cannot be parsed')
  }
}

/**
 * Whether a password seems to hold a raw `#`, `/` or `?`. The parser would take what follows for the host, and messages
 * would show a piece of the password.
 */
function hasStrayDelimiter(connectionString: string): boolean {
  const [, authority = '', rest = ''] = /^[a-z]+:\/\/([^/?#]*)(.*)$/is.exec(connectionString) ?? []
  const path = rest.split('?')[0] ?? ''
  return rest.includes('#') || path.includes('@') || (rest.includes('@') && !authority.includes('@'))
}

function badConnectionString(problem: string): RowhouseError {
  return createRowhouseError('connection_failed', `The connection string ${problem}.`, {
    hint: `Write it as ${EXAMPLE}; in user and password, characters such as @ : / # % are percent-encoded (@ is %40).`,
  })
}

/** Turns what the network or the server answered into one sentence and the mend. */
export function describeConnectionError(error: unknown, target: Target): RowhouseError {
  const { code, message } = firstError(error)
  const { host, port, user, database } = target
  const server = host.startsWith('/') ? `the socket folder ${host}` : `${host}:${port}`
  const [sentence, hint] = explain(code, message, { server, host, user, database })
  return createRowhouseError(
    'connection_failed',
    sentence,
    hint === undefined ? { cause: error } : { cause: error, hint },
  )
}

function explain(
  code: string | undefined,
  message: string,
  { server, host, user, database }: { server: string; host: string; user: string; database: string },
): [string, string?] {
  switch (code) {
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return [`The host ${host} is unknown.`, 'Check the host name in the connection string, and the network.']
    case 'ECONNREFUSED':
    case 'ENOENT':
      return [
        `Nothing accepts connections at ${server}.`,
        'Check host and port in the connection string, and that the server runs.',
      ]
    case 'ETIMEDOUT':
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
      return [`${server} did not answer.`, 'Check host and port in the connection string, and firewalls on the way.']
    case '28P01':
      return [
        `The server at ${server} refused the password of ${user}.`,
        'Check user and password; characters such as @ : / # % in them are percent-encoded.',
      ]
    case '28000':
      return [
        `The server at ${server} does not let ${user} in: ${message}.`,
        'Check the user, that the role may log in, and the server file pg_hba.conf.',
      ]
    case '3D000':
      return [
        `The server at ${server} has no database ${database}.`,
        `Check the name, or create it: create database ${quoteIdentifier(database)};`,
      ]
    case '42501':
      return [
        `${user} may not connect to the database ${database}.`,
        `Its owner runs: grant connect on database ${quoteIdentifier(database)} to ${quoteIdentifier(user)};`,
      ]
    case '53300':
      return [
        `The server at ${server} has no connection left.`,
        'End idle connections, raise max_connections, or try again later.',
      ]
    case '57P03':
      return [`The server at ${server} is starting up or shutting down.`, 'Try again in a moment.']
  }
  if (/timeout/i.test(message)) {
    return [
      `${server} did not answer in time.`,
      'Check host and port in the connection string, and firewalls on the way.',
    ]
  }
  if (/client password must be a string/i.test(message)) {
    return [`The server at ${server} asks ${user} for a password, and none was given.`, `Write it as in ${EXAMPLE}.`]
  }
  if (/does not support SSL/i.test(message)) {
    return [`The server at ${server} does not offer TLS.`, 'Add ?sslmode=disable to the connection string.']
  }
  if (/self.signed|certificate|altnames/i.test(message)) {
    return [
      `The certificate of ${server} was not accepted: ${message}.`,
      "Add ?sslmode=verify-full&sslrootcert=<file> with your provider's certificate to the connection string.",
    ]
  }
  if (/terminated unexpectedly|ECONNRESET|socket hang up/i.test(`${message} ${code}`)) {
    return [`${server} closed the connection at once.`, 'Check that it is a PostgreSQL server and accepts this user.']
  }
  return [`Could not connect to ${server} as ${user}: ${message}.`]
}

/** Node wraps the attempts at several addresses of one host in an AggregateError. */
function firstError(error: unknown): { code?: string; message: string } {
  const nested = error instanceof AggregateError ? error.errors[0] : error
  const { code, message } = nested as { code?: string; message?: string }
  return { message: message ?? String(nested), ...(code === undefined ? {} : { code }) }
}
