import type { ClientBase } from 'pg'
import { recordFile } from './apply-functions.ts'
import { type Inspection, inspect } from './inspect.ts'
import { makePlan, readAppliedState } from './plan.ts'
import { describeSqlErrors } from './sql-error.ts'
import type { SqlFiles } from './sql-files.ts'

/** Whether roles, memberships, privileges, the schema or the two tables of the migrator have to be made. */
export function needsBootstrap({ plan, preparations }: Inspection): boolean {
  return plan.bootstrap || preparations.length > 0
}

/**
 * Runs `sql/bootstrap.sql` in the current transaction, unless another run has done it meanwhile. Returns whether it ran;
 * the transaction then works as rowhouse_owner. Roles belong to the whole server: when another database creates them at
 * this moment, it fails with an error that `isRoleCollision` knows.
 */
export async function runBootstrap(client: ClientBase, files: SqlFiles): Promise<boolean> {
  if (!needsBootstrap(await inspect(client, files, false))) return false
  await describeSqlErrors(files.bootstrap, () => client.query(files.bootstrap.sql))
  // Only now is it certain that the login may read what was applied: a newer version's work must not be undone.
  makePlan(files, await readAppliedState(client))
  await recordFile(client, files.bootstrap)
  return true
}
