import type { ClientBase } from 'pg'
import { makePlan, NOTHING_APPLIED, type Plan, readAppliedState } from './plan.ts'
import { checkServerVersion, explainUnreadable, findObstacle, listPreparations, serverWarnings } from './preflight.ts'
import { readServerFacts, type ServerFacts } from './server-facts.ts'
import type { SqlFiles } from './sql-files.ts'

/** What a database has and what it lacks. */
export interface Inspection {
  readonly facts: ServerFacts
  readonly plan: Plan
  /** Roles to create, memberships and privileges to grant. */
  readonly preparations: readonly string[]
  readonly warnings: readonly string[]
  /** Whether there is nothing to write. */
  readonly upToDate: boolean
}

/**
 * Compares the database with the files, in the current transaction; the role is the same afterwards. Throws
 * `server_too_old` and `database_newer` always; what forbids writing only when there is something to write.
 * `onlyReading`: refuses a login that would first have to join rowhouse_owner.
 */
export async function inspect(client: ClientBase, files: SqlFiles, onlyReading: boolean): Promise<Inspection> {
  const facts = await readServerFacts(client)
  checkServerVersion(facts)
  const owner = facts.roles.find(({ name }) => name === 'rowhouse_owner')
  const readable = facts.tables && facts.schemaOwner === 'rowhouse_owner' && owner?.canSet === true
  const plan = makePlan(files, readable ? await readAsOwner(client) : NOTHING_APPLIED)
  const preparations = listPreparations(facts)
  const upToDate =
    plan.pending.length === 0 && preparations.length === 0 && plan.files.every(({ state }) => state === 'applied')
  if (!upToDate) {
    const obstacle = findObstacle(facts)
    if (obstacle !== undefined) throw obstacle
  }
  if (onlyReading && facts.tables && !readable) throw explainUnreadable(facts)
  return { facts, plan, preparations, warnings: serverWarnings(facts), upToDate }
}

async function readAsOwner(client: ClientBase) {
  await client.query('savepoint reading; set local role rowhouse_owner')
  const state = await readAppliedState(client)
  await client.query('rollback to savepoint reading; release savepoint reading')
  return state
}
