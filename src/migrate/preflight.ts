import { createRowhouseError, type RowhouseError } from '../errors.ts'
import { quoteIdentifier } from './quote-identifier.ts'
import { ROLE_NAMES, type ServerFacts } from './server-facts.ts'

const OLDEST_SERVER = 150000

/**
 * The minor releases of 2026-08-13. Those of 2026-11-12 (15.20) fixed CVE-2026-116327, CVE-2026-120154 and others
 * through which row-level security could be got around, so these and older ones miss those fixes.
 */
const LAST_MINOR_WITHOUT_FIXES: Readonly<Record<number, number>> = { 15: 19, 16: 15, 17: 11, 18: 6 }

/** Refuses a server that is too old for rowhouse. */
export function checkServerVersion(facts: Pick<ServerFacts, 'versionNumber' | 'version'>): void {
  if (facts.versionNumber >= OLDEST_SERVER) return
  throw createRowhouseError(
    'server_too_old',
    `This server is PostgreSQL ${facts.version}; rowhouse needs PostgreSQL 15 or later.`,
    { hint: 'Use a server of version 15 or later; pg_upgrade or a dump moves the data.' },
  )
}

/** What an operator should know about a server that rowhouse runs on. */
export function serverWarnings(facts: Pick<ServerFacts, 'versionNumber'>): string[] {
  const major = Math.trunc(facts.versionNumber / 10000)
  const minor = facts.versionNumber % 10000
  const lastWithoutFixes = LAST_MINOR_WITHOUT_FIXES[major]
  if (lastWithoutFixes === undefined || minor > lastWithoutFixes) return []
  return [
    `PostgreSQL ${major}.${minor} is older than the releases of 2026-11-12, which closed ways around row-level security ` +
      `(CVE-2026-116327, CVE-2026-120154): update the server to a release after ${major}.${lastWithoutFixes}.`,
  ]
}

/** The first thing that stands in the way of writing, or undefined. Each is one sentence and the SQL that mends it. */
export function findObstacle(facts: ServerFacts): RowhouseError | undefined {
  return serverObstacle(facts) ?? roleObstacle(facts) ?? schemaObstacle(facts)
}

/** Steps besides files that the bootstrap takes here. */
export function listPreparations(facts: ServerFacts): string[] {
  const steps: string[] = []
  const missing = missingRoles(facts)
  if (missing.length > 0) steps.push(`create the roles ${missing.join(', ')}`)
  const joining = ROLE_NAMES.filter((name) => !facts.superuser && !roleOf(facts, name)?.canSet)
  if (joining.length > 0) steps.push(`make ${facts.login} a member of ${joining.join(', ')}`)
  if (!facts.ownerCanCreate) steps.push(`let rowhouse_owner create schemas in the database ${facts.database}`)
  if (facts.schemaOwner === null) steps.push('create the schema rowhouse')
  return steps
}

/** The login could make itself a member of rowhouse_owner, but reading alone must not write. */
export function explainUnreadable(facts: ServerFacts): RowhouseError {
  const login = quoteIdentifier(facts.login)
  return createRowhouseError('missing_privilege', `${facts.login} may not read which migrations were applied.`, {
    hint: `Run: grant rowhouse_owner to ${login}${membershipOptions(facts)};`,
  })
}

function serverObstacle(facts: ServerFacts): RowhouseError | undefined {
  if (facts.inRecovery) {
    return createRowhouseError('connection_failed', 'This server is a standby, which nobody can write to.', {
      hint: 'Connect to the primary server.',
    })
  }
  if (facts.readOnly) {
    const login = quoteIdentifier(facts.login)
    const database = quoteIdentifier(facts.database)
    return createRowhouseError(
      'missing_privilege',
      `Transactions of ${facts.login} in the database ${facts.database} are read-only: default_transaction_read_only is on.`,
      { hint: `Run: alter role ${login} in database ${database} set default_transaction_read_only = off;` },
    )
  }
  return undefined
}

function roleObstacle(facts: ServerFacts): RowhouseError | undefined {
  const unrestricted = facts.roles.find((role) => role.superuser || role.bypassRls)
  if (unrestricted) {
    const attribute = unrestricted.superuser ? 'is a superuser' : 'has BYPASSRLS'
    return createRowhouseError(
      'role_not_restricted',
      `The role ${unrestricted.name} ${attribute}, so row-level security would not bind it.`,
      { hint: `An administrator runs: alter role ${unrestricted.name} nosuperuser nobypassrls;` },
    )
  }
  if (facts.superuser) return undefined

  const login = quoteIdentifier(facts.login)
  const membership = membershipOptions(facts)
  const missing = missingRoles(facts)
  const foreign = facts.roles.filter((role) => !role.canSet && !role.canGrant).map((role) => role.name)
  const sql: string[] = []
  if (missing.length > 0 && !facts.createRole) {
    sql.push(...missing.map((name) => `create role ${name} nologin;`))
    sql.push(`grant ${[...missing, ...foreign].join(', ')} to ${login}${membership};`)
    return missingPrivilege(`${facts.login} may not create the roles ${missing.join(', ')} (it has no CREATEROLE)`, sql)
  }
  if (foreign.length > 0) {
    sql.push(`grant ${foreign.join(', ')} to ${login}${membership};`)
    const reason = facts.versionNumber >= 160000 ? 'no ADMIN OPTION on them' : 'no CREATEROLE'
    const noun = foreign.length === 1 ? 'the role' : 'the roles'
    return missingPrivilege(`${facts.login} is no member of ${noun} ${foreign.join(', ')} and has ${reason}`, sql)
  }
  return undefined
}

function schemaObstacle(facts: ServerFacts): RowhouseError | undefined {
  const database = quoteIdentifier(facts.database)
  if (facts.schemaOwner !== null && facts.schemaOwner !== ROLE_NAMES[0]) {
    return createRowhouseError(
      'missing_privilege',
      `The database ${facts.database} has a schema rowhouse already, which belongs to ${facts.schemaOwner}; ` +
        'rowhouse installs only into a schema of its own and changed nothing.',
      { hint: 'Rename that schema (alter schema rowhouse rename to ...) or drop it when it is not in use.' },
    )
  }
  if (!facts.ownerCanCreate && !facts.canGrantCreate && !facts.superuser) {
    const administrator = `The owner of the database, ${facts.databaseOwner}, or a superuser`
    return roleOf(facts, ROLE_NAMES[0])
      ? missingPrivilege(
          `rowhouse_owner may not create schemas in the database ${facts.database}`,
          [`grant create on database ${database} to rowhouse_owner;`],
          administrator,
        )
      : missingPrivilege(
          `${facts.login} may not grant CREATE on the database ${facts.database}`,
          [`grant create on database ${database} to ${quoteIdentifier(facts.login)} with grant option;`],
          administrator,
        )
  }
  return undefined
}

function missingPrivilege(problem: string, sql: string[], administrator = 'An administrator'): RowhouseError {
  return createRowhouseError('missing_privilege', `${problem}.`, {
    hint: `${administrator} runs: ${sql.join(' ')}`,
  })
}

/** From 16 on, a membership says by itself whether it may be inherited and used by set role. */
function membershipOptions(facts: ServerFacts): string {
  return facts.versionNumber >= 160000 ? ' with inherit true, set true' : ''
}

function missingRoles(facts: ServerFacts): string[] {
  return ROLE_NAMES.filter((name) => roleOf(facts, name) === undefined)
}

function roleOf(facts: ServerFacts, name: string) {
  return facts.roles.find((role) => role.name === name)
}
