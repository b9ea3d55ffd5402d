import { createRowhouseError, RowhouseError } from '../errors.ts'
import { isTransient } from './transaction.ts'

/** The fields of an error that Postgres sends. */
interface PostgresError extends Error {
  readonly code?: string
  readonly position?: string
  readonly where?: string
  readonly detail?: string
}

/**
 * Runs SQL of a file; when it fails, throws one sentence that names file and line. Transient errors pass unchanged, so
 * that they can be tried again.
 */
export async function describeSqlErrors<T>(
  { file, sql }: { file: string; sql: string },
  run: () => Promise<T>,
): Promise<T> {
  try {
    return await run()
  } catch (error) {
    if (error instanceof RowhouseError || isTransient(error)) throw error
    throw describe(file, sql, error)
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
  const trigger = where === undefined ? undefined : /^PL\/pgSQL function (.+?) line/m.exec(where)?.[1]
  const ours = trigger === undefined || trigger.startsWith('rowhouse.') || trigger.startsWith('inline_code_block')
  return createRowhouseError(
    'not_migrated',
    `${file}${line} failed, and nothing of it was kept: ${message} (SQLSTATE ${code ?? 'none'}).`,
    {
      hint: ours
        ? 'See the message; when the database was not changed by hand, please report it.'
        : `It was raised by ${trigger}: if that is an event trigger of this database, let it allow rowhouse_owner, or disable it during the migration.`,
      cause: error,
    },
  )
}

/** Whether the server or the network ended the connection. */
export function isConnectionLoss(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  const { code } = error as PostgresError
  if (code !== undefined) return /^(57P0[1-4]|08...|ECONN.*|EPIPE|ETIMEDOUT)$/.test(code)
  return /connection terminated|connection error|not queryable|client was closed/i.test(error.message)
}
