import pg from 'pg'
import { afterEach, describe, expect, test } from 'vitest'
import { migrate } from '../../src/migrate/migrate.ts'
import { checkServerVersion, findObstacle, listPreparations, serverWarnings } from '../../src/migrate/preflight.ts'
import type { RoleFacts, ServerFacts } from '../../src/migrate/server-facts.ts'
import { migrationStatus } from '../../src/migrate/status.ts'
import { catalogSnapshot, createTestDatabase, failureOf, type TestDatabase, useServer } from './support.ts'

useServer()

let database: TestDatabase

describe('on a server', () => {
  afterEach(() => database.drop())

  test('a login without CREATEROLE is told the statements, and after them it succeeds', async () => {
    await installOnce() // the roles exist from now on
    database = await createTestDatabase({ createRole: false, suffix: ' "q"' })
    const before = await catalogSnapshot(database)
    const error = await failureOf(migrate({ connectionString: database.url }))
    expect(error.code).toBe('missing_privilege')
    expect(error.message).toContain(database.login)
    expect(await catalogSnapshot(database)).toEqual(before)

    await database.admin(statementOf(error.hint))
    expect((await migrate({ connectionString: database.url })).applied.length).toBeGreaterThan(1)
  })

  test('a login that does not own the database is told the statements, and after them it succeeds', async () => {
    await installOnce()
    database = await createTestDatabase()
    await database.admin(`alter database ${database.name} owner to current_user`)
    const error = await failureOf(migrate({ connectionString: database.url }))
    expect(error.code).toBe('missing_privilege')
    expect(error.message).toContain('may not create schemas')

    await database.admin(statementOf(error.hint))
    expect((await migrate({ connectionString: database.url })).applied.length).toBeGreaterThan(1)
  })

  test('a login that is not allowed to connect is told so', async () => {
    database = await createTestDatabase()
    const other = await createTestDatabase()
    await database.admin(`revoke connect on database ${database.name} from public`)
    const url = new URL(database.url)
    url.username = other.login
    const error = await failureOf(migrate({ connectionString: url.href }))
    await other.drop()
    expect(error.code).toBe('connection_failed')
    expect(error.message).toContain(`may not connect to the database ${database.name}`)
  })

  test('a login without rights may not read the status, and is told the statement', async () => {
    database = await createTestDatabase()
    await migrate({ connectionString: database.url })
    const other = await createTestDatabase({ createRole: false })
    try {
      const url = new URL(database.url)
      url.username = other.login
      const error = await failureOf(migrationStatus({ connectionString: url.href }))
      expect(error.code).toBe('missing_privilege')
      await database.admin(statementOf(error.hint))
      await database.admin(`grant create on database ${database.name} to rowhouse_owner`)
      expect((await migrationStatus({ connectionString: url.href })).upToDate).toBe(true)
    } finally {
      await other.drop()
    }
  })

  test('an installed database needs no CREATEROLE any more', async () => {
    database = await createTestDatabase()
    await migrate({ connectionString: database.url })
    await database.admin(`alter role ${pg.escapeIdentifier(database.login)} nocreaterole`)
    await database.admin("update rowhouse.applied_functions set checksum = 'x'")
    expect((await migrate({ connectionString: database.url })).applied.length).toBeGreaterThan(1)
  })
})

/** The judgement alone, for servers that a test must not make: the roles belong to every database of a server. */
describe('from the facts', () => {
  const role = (name: string, facts: Partial<RoleFacts> = {}): RoleFacts => {
    return { name, superuser: false, bypassRls: false, canSet: true, canGrant: true, ...facts }
  }
  const roles = [role('rowhouse_owner'), role('rowhouse_app'), role('rowhouse_admin'), role('rowhouse_search')]
  const facts = (changes: Partial<ServerFacts> = {}): ServerFacts => ({
    versionNumber: 150020,
    version: '15.20',
    database: 'app',
    databaseOwner: 'owner',
    login: 'owner',
    superuser: false,
    createRole: true,
    inRecovery: false,
    readOnly: false,
    roles,
    schemaOwner: null,
    tables: false,
    canGrantCreate: true,
    ownerCanCreate: false,
    ...changes,
  })

  test('an owner with CREATEROLE is welcome', () => {
    expect(findObstacle(facts())).toBeUndefined()
    expect(findObstacle(facts({ roles: [] }))).toBeUndefined()
    expect(findObstacle(facts({ roles: [], superuser: true, createRole: false }))).toBeUndefined()
  })

  test('missing roles without CREATEROLE: the statements that create and grant them', () => {
    const error = findObstacle(facts({ roles: [], createRole: false, login: 'Deploy' }))
    expect(error?.message).toBe(
      'Deploy may not create the roles rowhouse_owner, rowhouse_app, rowhouse_admin, rowhouse_search (it has no CREATEROLE).',
    )
    expect(error?.hint).toBe(
      'An administrator runs: create role rowhouse_owner nologin; create role rowhouse_app nologin; ' +
        'create role rowhouse_admin nologin; create role rowhouse_search nologin; ' +
        'grant rowhouse_owner, rowhouse_app, rowhouse_admin, rowhouse_search to "Deploy";',
    )
  })

  test('PostgreSQL 16 and later: roles of another creator, with the options of the membership', () => {
    const foreign = roles.map(({ name }) => role(name, { canSet: false, canGrant: false }))
    const error = findObstacle(facts({ versionNumber: 170000, roles: foreign }))
    expect(error?.message).toContain('no ADMIN OPTION')
    expect(error?.hint).toContain(
      'grant rowhouse_owner, rowhouse_app, rowhouse_admin, rowhouse_search to owner with inherit true, set true;',
    )
  })

  test.each([
    [{ superuser: true }, 'is a superuser'],
    [{ bypassRls: true }, 'has BYPASSRLS'],
  ])('a role that row-level security would not bind is refused: %o', (change, words) => {
    const error = findObstacle(facts({ roles: [roles[0]!, role('rowhouse_app', change), roles[2]!] }))
    expect(error?.code).toBe('role_not_restricted')
    expect(error?.message).toContain(`rowhouse_app ${words}`)
  })

  test('a standby is no place to write to', () => {
    expect(findObstacle(facts({ inRecovery: true }))?.hint).toContain('primary')
  })

  test('the steps besides files are named', () => {
    expect(listPreparations(facts({ roles: [] }))).toEqual([
      'create the roles rowhouse_owner, rowhouse_app, rowhouse_admin, rowhouse_search',
      'make owner a member of rowhouse_owner, rowhouse_app, rowhouse_admin, rowhouse_search',
      'let rowhouse_owner create schemas in the database app',
      'create the schema rowhouse',
    ])
    expect(listPreparations(facts({ ownerCanCreate: true, schemaOwner: 'rowhouse_owner' }))).toEqual([])
  })

  test('a server older than 15 is refused', () => {
    expect(() => checkServerVersion({ versionNumber: 140024, version: '14.24' })).toThrow(
      'This server is PostgreSQL 14.24; rowhouse needs PostgreSQL 15 or later.',
    )
    expect(() => checkServerVersion({ versionNumber: 150000, version: '15.0' })).not.toThrow()
  })

  test.each([
    [150019, true],
    [150020, false],
    [160015, true],
    [160016, false],
    [170011, true],
    [180006, true],
    [180007, false],
    [190000, false],
  ])('a server of version number %i is warned about: %s', (versionNumber, warned) => {
    expect(serverWarnings({ versionNumber })).toHaveLength(warned ? 1 : 0)
  })
})

async function installOnce(): Promise<void> {
  const first = await createTestDatabase()
  await migrate({ connectionString: first.url })
  await first.drop()
}

/** The statements that the hint tells an administrator to run. */
function statementOf(hint: string): string {
  const statement = /[Rr]uns?: (.*)$/.exec(hint)?.[1]
  if (statement === undefined) throw new Error(`no statement in: ${hint}`)
  return statement
}
