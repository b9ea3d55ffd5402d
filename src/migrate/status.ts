import { inspect } from './inspect.ts'
import { packageVersion } from './package-version.ts'
import type { MigrationStatus } from './report.ts'
import { type MigrationConnection, withClient } from './session.ts'
import { loadSqlFiles } from './sql-files.ts'
import { inTransaction } from './transaction.ts'

/**
 * Says, file by file, what a database has of this version. Reads in one read-only transaction and writes nothing.
 * Throws as `migrate` does.
 *
 * @example
 * ```ts
 * const { upToDate } = await migrationStatus({ connectionString })
 * if (!upToDate) throw new Error('run `npx rowhouse migrate` first')
 * ```
 */
export async function migrationStatus(connection: MigrationConnection): Promise<MigrationStatus> {
  return migrationStatusOfFiles(connection)
}

/** {@link migrationStatus} with the SQL files of another folder. @internal */
export async function migrationStatusOfFiles(
  connection: MigrationConnection,
  sqlFolder?: string,
): Promise<MigrationStatus> {
  const files = await loadSqlFiles(sqlFolder)
  return withClient(connection, async (client) => {
    const { facts, plan, preparations, warnings, upToDate } = await inTransaction(
      client,
      () => inspect(client, files, true),
      { readOnly: true },
    )
    return {
      database: facts.database,
      serverVersion: facts.version,
      packageVersion: packageVersion(),
      installedVersion: plan.installedVersion,
      upToDate,
      files: plan.files,
      preparations,
      warnings,
    }
  })
}
