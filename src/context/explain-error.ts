import pg from 'pg'
import { createRowhouseError, mapDatabaseError } from '../errors.ts'
import { isDatabaseError } from './pg-internals.ts'

/** What stands in the way of entering a tenant, as one sentence with the mend; other errors stay as they are. */
export function explainPreludeError(error: unknown, role: string | undefined, login: string): unknown {
  if (!isDatabaseError(error)) return error
  switch (error.code) {
    case '42501': {
      const needed = role ?? 'rowhouse_app'
      const doing = error.message.includes('set role')
        ? `may not act as the role "${needed}"`
        : `can't use rowhouse (${error.message})`
      const grant = `grant ${pg.escapeIdentifier(needed)} to ${pg.escapeIdentifier(login)}`
      return createRowhouseError('missing_privilege', `The login "${login}" ${doing}; run: ${grant}`, {
        cause: error,
        hint: `${grant};`,
      })
    }
    case '22023': // set role: no such role
      if (role !== undefined && !role.startsWith('rowhouse_')) {
        return createRowhouseError('invalid_argument', `The role "${role}" does not exist.`, {
          cause: error,
          hint: 'Create it, or leave the option role out to use rowhouse_app.',
        })
      }
      return notMigrated(error)
    case '3F000': // no such schema
    case '42883': // no such function
    case '42704': // no such role
      return notMigrated(error)
    default:
      return mapDatabaseError(error)
  }
}

function notMigrated(cause: Error): Error {
  return createRowhouseError('not_migrated', `This database has no rowhouse of this version: ${cause.message}.`, {
    cause,
  })
}

/** A failure to get a connection, as one sentence. */
export function explainConnectError(error: unknown, poolSize: number | undefined): unknown {
  if (!(error instanceof Error)) return error
  const { code } = error as Error & { code?: string }
  if (error.message === 'timeout exceeded when trying to connect') {
    return createRowhouseError('connection_failed', `All ${poolSize ?? ''} connections of the pool are in use.`, {
      cause: error,
      hint: 'Make transactions shorter (no slow calls inside withTenant), or raise max in poolOptions.',
    })
  }
  // Several addresses of a host name fail with an AggregateError, whose message is empty.
  const reason = error.message || code || 'no answer'
  return createRowhouseError('connection_failed', `Can't connect to Postgres: ${reason}.`, {
    cause: error,
    ...(error.message.startsWith('Cannot use a pool after calling end') ? { hint: 'The pool was closed.' } : {}),
  })
}
