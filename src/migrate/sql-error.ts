import { createRowhouseError, RowhouseError } from '../errors.ts'
import { isTransient } from './transaction.ts'

/** The fields of an error that Postgres sends. */
interface PostgresError extends Error {
  readonly code?: string
  readonly position?: string
  readonly where?: string
  readonly detail?: string
}

/** Runs SQL of a file; when it fails, throws one sentence that names file and line, and the error as its cause. */
export async function describeSqlErrors<T>(
  { file, sql }: { file: string; sql: string },
  run: () => Promise<T>,
): Promise<T> {
  try {
    return await run()
  } catch (error) {
    throw error instanceof RowhouseError ? error : describe(file, sql, error)
  }
}

function describe(file: string, sql: string, error: unknown): RowhouseError {
  const { message, code, position, where } = error as PostgresError
  if (isConnectionLoss(error)) {
    return createRowhouseError('connection_failed', `The connection was lost while ${file} ran: ${message}.`, {
      hint: 'Nothing of the transaction was kept; run migrate again.',
      cause: error,
    })
  }
  const line = position === undefined ? '' : `, line ${sql.slice(0, Number(position)).split('\n').length}`
  return createRowhouseError(
    'migration_failed',
    `${file}${line} failed, and nothing of it was kept: ${message} (SQLSTATE ${code ?? 'none'}).`,
    { hint: explainFailure(error, where), cause: error },
  )
}

function explainFailure(error: unknown, where: string | undefined): string {
  if (isTransient(error)) {
    return 'Look for long transactions in pg_stat_activity, let them end, and run migrate again.'
  }
  // Functions of ours are shown with their schema, or without one where the search path finds them.
  const raisedBy = where === undefined ? undefined : /^PL\/pgSQL function (.+?\)) line/m.exec(where)?.[1]
  if (raisedBy?.includes('.') && !raisedBy.startsWith('rowhouse.')) {
    return (
      `It was raised by ${raisedBy}: if an event trigger of this database calls that, ` +
      'let it allow rowhouse_owner, or disable it during the migration.'
    )
  }
  return 'See the message; when the schema rowhouse was not changed by hand, please report it.'
}

/** Whether the server or the network ended the connection. */
export function isConnectionLoss(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  const { code } = error as PostgresError
  if (code !== undefined) return /^(57P0[1-4]|08...|ECONN.*|EPIPE|ETIMEDOUT)$/.test(code)
  return /connection terminated|connection error|not queryable|client was closed/i.test(error.message)
}
