import type { ClientBase } from 'pg'
import { recordFile } from './apply-functions.ts'
import { makePlan, readAppliedState } from './plan.ts'
import { describeSqlErrors } from './sql-error.ts'
import type { SqlFiles } from './sql-files.ts'

/**
 * Runs `sql/bootstrap.sql` in the current transaction, which works as rowhouse_owner afterwards. Roles belong to the
 * whole server: when another database creates them at this moment, it fails with an error that `isTransient` knows.
 */
export async function runBootstrap(client: ClientBase, files: SqlFiles): Promise<void> {
  await describeSqlErrors(files.bootstrap, () => client.query(files.bootstrap.sql))
  // Only now is it certain that the login may read what was applied: a newer version's work must not be undone.
  makePlan(files, await readAppliedState(client))
  await recordFile(client, files.bootstrap)
}
