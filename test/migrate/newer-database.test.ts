import { afterEach, beforeEach, expect, test } from 'vitest'
import { migrate, migrateFiles } from '../../src/migrate/migrate.ts'
import { packageVersion } from '../../src/migrate/package-version.ts'
import { migrationStatus } from '../../src/migrate/status.ts'
import {
  catalogSnapshot,
  createSqlFolder,
  createTestDatabase,
  failureOf,
  removeSqlFolder,
  type TestDatabase,
  useServer,
} from './support.ts'

useServer()

let database: TestDatabase

beforeEach(async () => {
  database = await createTestDatabase()
  await migrate({ connectionString: database.url })
})
afterEach(() => database.drop())

test('functions applied by a newer version are not overwritten', async () => {
  await database.admin("update rowhouse.applied_functions set version = '99.0.0', checksum = 'x'")
  const before = await catalogSnapshot(database)
  const error = await failureOf(migrate({ connectionString: database.url }))
  expect(error.code).toBe('database_newer')
  expect(error.message).toContain('99.0.0')
  expect(error.message).toContain(packageVersion())
  expect(await catalogSnapshot(database)).toEqual(before)
  expect((await failureOf(migrationStatus({ connectionString: database.url }))).code).toBe('database_newer')
})

test('functions applied by an older version are replaced (control)', async () => {
  await database.admin("update rowhouse.applied_functions set version = '0.0.1', checksum = 'x'")
  const { applied } = await migrate({ connectionString: database.url })
  expect(applied.map(({ file }) => file)).toContain('functions/context.sql')
})

test('a migration that this version does not have is named', async () => {
  const older = await createSqlFolder({})
  try {
    const error = await failureOf(migrateFiles({ connectionString: database.url }, {}, older))
    expect(error.code).toBe('database_newer')
    expect(error.message).toContain('1_tenants')
  } finally {
    await removeSqlFolder(older)
  }
})

test('a login that has yet to join rowhouse_owner is refused as well, and keeps no membership', async () => {
  if (database.serverVersion >= 160000) return
  await database.admin("update rowhouse.applied_functions set version = '99.0.0', checksum = 'x'")
  const other = await createTestDatabase()
  try {
    const url = new URL(database.url)
    url.username = other.login
    await database.admin(`grant create on database ${database.name} to ${other.login} with grant option`)
    const error = await failureOf(migrate({ connectionString: url.href }))
    expect(error.code).toBe('database_newer')
    const [membership] = await database.admin("select pg_has_role($1, 'rowhouse_owner', 'MEMBER') as member", [
      other.login,
    ])
    expect(membership.member).toBe(false)
    await database.admin(`revoke all on database ${database.name} from ${other.login}`)
  } finally {
    await other.drop()
  }
})
