import type { ClientBase } from 'pg'
import { makePlan, NOTHING_APPLIED, type Plan, readAppliedState } from './plan.ts'
import { checkServerVersion, explainUnreadable, findObstacle, listPreparations, serverWarnings } from './preflight.ts'
import { readServerFacts, type ServerFacts } from './server-facts.ts'
import type { SqlFiles } from './sql-files.ts'
import { inTransaction } from './transaction.ts'

/** What a database has and what it lacks, read in one read-only transaction. */
export interface Inspection {
  readonly facts: ServerFacts
  readonly plan: Plan
  readonly preparations: readonly string[]
  readonly warnings: readonly string[]
  /** Whether anything has to be written. */
  readonly upToDate: boolean
}

/**
 * Compares the database with the files. Throws `server_too_old` and `database_newer` always; what forbids writing only
 * when there is something to write. `onlyReading`: refuses a login that would first have to join rowhouse_owner.
 */
export async function inspect(client: ClientBase, files: SqlFiles, onlyReading: boolean): Promise<Inspection> {
  return inTransaction(
    client,
    async () => {
      const facts = await readServerFacts(client)
      checkServerVersion(facts)
      const owner = facts.roles.find(({ name }) => name === 'rowhouse_owner')
      const readable = facts.tables && facts.schemaOwner === 'rowhouse_owner' && owner?.canSet === true
      if (readable) await client.query('set local role rowhouse_owner')
      const plan = makePlan(files, readable ? await readAppliedState(client) : NOTHING_APPLIED)
      const preparations = listPreparations(facts)
      const upToDate = plan.pending.length === 0 && preparations.length === 0
      if (!upToDate) {
        const obstacle = findObstacle(facts)
        if (obstacle !== undefined) throw obstacle
      }
      if (onlyReading && facts.tables && !readable) throw explainUnreadable(facts)
      return { facts, plan, preparations, warnings: serverWarnings(facts), upToDate }
    },
    { readOnly: true },
  )
}
