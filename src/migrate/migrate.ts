import type { ClientBase } from 'pg'
import { applyFunctions } from './apply-functions.ts'
import { needsBootstrap, runBootstrap } from './bootstrap.ts'
import { type Inspection, inspect } from './inspect.ts'
import { takeMigrationLock } from './lock.ts'
import { packageVersion } from './package-version.ts'
import { makePlan, readAppliedState, refuseChangedMigrations } from './plan.ts'
import { createProgress, type Progress } from './progress.ts'
import type { AppliedFile, MigrationReport, ProgressListener } from './report.ts'
import { runMigrations } from './run-migrations.ts'
import { type MigrationConnection, withClient } from './session.ts'
import { loadSqlFiles, type SqlFiles } from './sql-files.ts'
import { inTransaction, isRoleCollision, isTransient, retry } from './transaction.ts'

export interface MigrateOptions {
  /** Called when a step begins and when it ended. */
  readonly onProgress?: ProgressListener
  /** Only says what would run; writes nothing. */
  readonly dryRun?: boolean
}

/**
 * Installs rowhouse into a database, or brings it up to this version. Running it again, or in many processes at once,
 * does no harm: runs wait for each other, and a run that finds nothing to do takes no lock.
 *
 * What runs: `sql/bootstrap.sql` (roles, schema) in one transaction; then, in another one, every pending file of
 * `sql/migrations` and, when one of them changed, all files of `sql/functions`. So the database is at the old version or
 * at the new one, never between them. The application's own objects are not touched.
 *
 * Throws a `RowhouseError` with a code of: `connection_failed`, `server_too_old`, `missing_privilege` (its hint is the
 * SQL for an administrator), `role_not_restricted`, `database_newer`, `not_migrated`, `invalid_argument`.
 *
 * @example
 * ```ts
 * const report = await migrate({ connectionString: 'postgres://owner@localhost/app' })
 * console.log(report.applied.map(({ file }) => file))
 * ```
 */
export async function migrate(connection: MigrationConnection, options: MigrateOptions = {}): Promise<MigrationReport> {
  return migrateFiles(connection, options)
}

/** {@link migrate} with the SQL files of another folder. @internal */
export async function migrateFiles(
  connection: MigrationConnection,
  { onProgress, dryRun = false }: MigrateOptions,
  sqlFolder?: string,
): Promise<MigrationReport> {
  const begun = performance.now()
  const progress = createProgress(onProgress)
  const files = await loadSqlFiles(sqlFolder)
  const connected = progress.start('connect')
  return withClient(connection, async (client) => {
    connected()
    const inspection = await progress.run('check', () =>
      inTransaction(client, () => inspect(client, files, dryRun), { readOnly: true }),
    )
    refuseChangedMigrations(inspection.plan)
    const applied =
      dryRun || inspection.upToDate ? inspection.plan.pending : await install(client, files, inspection, progress)
    return {
      database: inspection.facts.database,
      serverVersion: inspection.facts.version,
      version: packageVersion(),
      dryRun,
      applied,
      preparations: inspection.preparations,
      warnings: inspection.warnings,
      durationMs: performance.now() - begun,
    }
  })
}

/** Several databases of one server may collide at their common roles; each collision lets one of them pass. */
const BOOTSTRAP_ATTEMPTS = 20
/** A deadlock with, or a lock held by, transactions of the running application. */
const UPDATE_ATTEMPTS = 10

async function install(
  client: ClientBase,
  files: SqlFiles,
  inspection: Inspection,
  progress: Progress,
): Promise<AppliedFile[]> {
  const applied: AppliedFile[] = []
  if (needsBootstrap(inspection)) {
    const ran = await retry(BOOTSTRAP_ATTEMPTS, isRoleCollision, () =>
      inTransaction(client, async () => {
        await progress.run('lock', () => takeMigrationLock(client))
        return progress.run('bootstrap', () => runBootstrap(client, files), files.bootstrap.file)
      }),
    )
    if (ran) applied.push({ file: files.bootstrap.file, kind: 'bootstrap', sql: files.bootstrap.sql })
  }
  const updated = await retry(UPDATE_ATTEMPTS, isTransient, () =>
    inTransaction(client, () => update(client, files, progress)),
  )
  return [...applied, ...updated]
}

/** Applies what is still pending once the lock is ours: another run may have done it meanwhile. */
async function update(client: ClientBase, files: SqlFiles, progress: Progress): Promise<AppliedFile[]> {
  await progress.run('lock', () => takeMigrationLock(client))
  // A lock that a long transaction of the application holds would make all others queue behind this run.
  await client.query("set local lock_timeout = '2s'")
  await client.query('set local role rowhouse_owner')
  const plan = makePlan(files, await readAppliedState(client))
  refuseChangedMigrations(plan)
  if (plan.migrations) {
    await runMigrations(client, files.migrationsFolder, files.migrations, (file, run) =>
      progress.run('migration', run, file.file),
    )
  }
  if (plan.functions) {
    await progress.run('functions', () => applyFunctions(client, files.functions, [files.bootstrap.file]))
  }
  return plan.pending.filter(({ kind }) => kind !== 'bootstrap')
}
