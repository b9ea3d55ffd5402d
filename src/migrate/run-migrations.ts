import type { ClientBase, QueryConfig, QueryResult } from 'pg'
import { migrate as runPostgresMigrations } from 'postgres-migrations'
import { createRowhouseError, RowhouseError } from '../errors.ts'
import { describeSqlErrors } from './sql-error.ts'
import type { MigrationFile } from './sql-files.ts'

/** What postgres-migrations needs of a client. */
interface QueryRunner {
  query(input: string | QueryConfig): Promise<QueryResult>
}

export type AroundFile = <T>(file: MigrationFile, run: () => Promise<T>) => Promise<T>

/**
 * Statements of postgres-migrations 5.3.0 that have no place here, because its whole run is one transaction that holds
 * our own lock: it would commit after each file, and poll once a second for a lock of the session, which a transaction
 * pooler leaves behind on a connection of somebody else.
 */
const ANSWERED_HERE: Readonly<Record<string, QueryResult['rows']>> = {
  'START TRANSACTION': [],
  COMMIT: [],
  ROLLBACK: [],
  'SELECT pg_try_advisory_lock(-8525285245963000605);': [{ pg_try_advisory_lock: true }],
  'SELECT pg_advisory_unlock(-8525285245963000605);': [],
}

/**
 * Lets postgres-migrations apply the pending files of a folder in the current transaction, as rowhouse_owner. It calls
 * its table `migrations` without a schema, hence the search path; that it looks for the table in every schema does no
 * harm, since the bootstrap made `rowhouse.migrations` beforehand.
 */
export async function runMigrations(
  client: ClientBase,
  folder: string,
  files: readonly MigrationFile[],
  aroundFile: AroundFile,
): Promise<void> {
  await client.query('set local search_path = rowhouse, pg_temp')
  const runner = new MigrationQueryRunner(client, files, aroundFile)
  try {
    await runPostgresMigrations({ client: runner as unknown as ClientBase as never }, folder)
  } catch (error) {
    // Its own error is text around ours.
    throw runner.failure ?? describeLibraryError(error)
  }
  await client.query('set local search_path = pg_catalog, pg_temp')
}

class MigrationQueryRunner implements QueryRunner {
  /** The first error of a statement. */
  failure: unknown
  readonly #client: ClientBase
  readonly #files: readonly MigrationFile[]
  readonly #aroundFile: AroundFile

  constructor(client: ClientBase, files: readonly MigrationFile[], aroundFile: AroundFile) {
    this.#client = client
    this.#files = files
    this.#aroundFile = aroundFile
  }

  async query(input: string | QueryConfig): Promise<QueryResult> {
    const text = typeof input === 'string' ? input : input.text
    const rows = ANSWERED_HERE[text]
    if (rows !== undefined) return { rows, rowCount: rows.length, command: '', oid: 0, fields: [] }
    try {
      const file = this.#files.find(({ sql }) => sql === text)
      if (file === undefined) return await this.#client.query(input as QueryConfig)
      return await this.#aroundFile(file, () => describeSqlErrors(file, () => this.#client.query(text)))
    } catch (error) {
      this.failure ??= error
      throw error
    }
  }
}

function describeLibraryError(error: unknown): RowhouseError {
  if (error instanceof RowhouseError) return error
  const message = error instanceof Error ? error.message : String(error)
  return createRowhouseError('migration_failed', `The migrations could not be run: ${message}`, { cause: error })
}
