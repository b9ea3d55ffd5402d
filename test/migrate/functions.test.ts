import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { migrateFiles } from '../../src/migrate/migrate.ts'
import { packageVersion } from '../../src/migrate/package-version.ts'
import { migrationStatusOfFiles } from '../../src/migrate/status.ts'
import {
  createSqlFolder,
  createTestDatabase,
  failureOf,
  removeSqlFolder,
  type TestDatabase,
  useServer,
} from './support.ts'

useServer()

const MIGRATIONS = { '1_things.sql': 'create table rowhouse.things (id int)' }

let database: TestDatabase
const folders: string[] = []

beforeEach(async () => {
  database = await createTestDatabase()
})
afterEach(async () => {
  await database.drop()
  for (const folder of folders.splice(0)) await removeSqlFolder(folder)
})

async function folderOf(
  functions: Record<string, string>,
  migrations: Record<string, string> = MIGRATIONS,
): Promise<string> {
  const folder = await createSqlFolder(migrations, functions)
  folders.push(folder)
  return folder
}

function returning(name: string, value: number): string {
  return `create or replace function rowhouse.${name}() returns int language sql as $$ select ${value} $$`
}

async function apply(folder: string): Promise<string[]> {
  const { applied } = await migrateFiles({ connectionString: database.url }, {}, folder)
  return applied.map(({ file }) => file)
}

test('a changed file is applied again, and with it all others, in the order of their names', async () => {
  await apply(await folderOf({ 'b.sql': returning('b', 1), 'a.sql': returning('a', 1) }))
  const changed = await folderOf({ 'b.sql': returning('b', 2), 'a.sql': returning('a', 1) })
  expect(await apply(changed)).toEqual(['functions/a.sql', 'functions/b.sql'])
  expect(await database.admin('select rowhouse.a(), rowhouse.b()')).toEqual([{ a: 1, b: 2 }])
  expect(await apply(changed)).toEqual([])
})

test('a new migration applies them again, since they may depend on its tables', async () => {
  const functions = { 'a.sql': returning('a', 1) }
  await apply(await folderOf(functions))
  const next = await folderOf(functions, { ...MIGRATIONS, '2_more.sql': 'create table rowhouse.more (id int)' })
  expect(await apply(next)).toEqual(['migrations/2_more.sql', 'functions/a.sql'])
})

test('a plpgsql body may use what a later file makes', async () => {
  const caller = `create or replace function rowhouse.a() returns int language plpgsql as $$ begin return rowhouse.b(); end $$`
  await apply(await folderOf({ 'a.sql': caller, 'b.sql': returning('b', 7) }))
  expect(await database.admin('select rowhouse.a()')).toEqual([{ a: 7 }])
})

test('when one file fails, none of them changed, and file and line are named', async () => {
  await apply(await folderOf({ 'a.sql': returning('a', 1), 'b.sql': returning('b', 1) }))
  const broken = await folderOf({ 'a.sql': returning('a', 2), 'b.sql': '-- a comment\n\nselect nonsense' })
  const error = await failureOf(migrateFiles({ connectionString: database.url }, {}, broken))
  expect(error.message).toContain('functions/b.sql, line 3 failed')
  expect(error.message).toContain('"nonsense" does not exist')
  expect(await database.admin('select rowhouse.a()')).toEqual([{ a: 1 }])
})

test('every row names the version that applied it, and the row of a removed file goes', async () => {
  await apply(await folderOf({ 'a.sql': returning('a', 1), 'b.sql': returning('b', 1) }))
  expect(await apply(await folderOf({ 'a.sql': returning('a', 1) }))).toEqual(['functions/a.sql'])
  expect(await database.admin('select file, version from rowhouse.applied_functions order by 1')).toEqual([
    { file: 'bootstrap.sql', version: packageVersion() },
    { file: 'functions/a.sql', version: packageVersion() },
  ])
})

test('an older version in the rows is replaced by ours when something changed', async () => {
  const folder = await folderOf({ 'a.sql': returning('a', 1), 'b.sql': returning('b', 1) })
  await apply(folder)
  await database.admin("update rowhouse.applied_functions set version = '0.0.1'")
  expect(await apply(folder)).toEqual([])
  await writeFile(join(folder, 'functions', 'b.sql'), returning('b', 2))
  await apply(folder)
  const versions = await database.admin("select distinct version from rowhouse.applied_functions where file like 'f%'")
  expect(versions).toEqual([{ version: packageVersion() }])
})

test('the status says which files are applied, pending and changed', async () => {
  await apply(await folderOf({ 'a.sql': returning('a', 1), 'b.sql': returning('b', 1) }))
  const next = await folderOf(
    { 'a.sql': returning('a', 1), 'b.sql': returning('b', 2), 'c.sql': returning('c', 1) },
    { ...MIGRATIONS, '2_more.sql': 'create table rowhouse.more (id int)' },
  )
  const status = await migrationStatusOfFiles({ connectionString: database.url }, next)
  expect(status.upToDate).toBe(false)
  expect(status.files.map(({ file, state }) => [file, state])).toEqual([
    ['bootstrap.sql', 'applied'],
    ['migrations/1_things.sql', 'applied'],
    ['migrations/2_more.sql', 'pending'],
    ['functions/a.sql', 'applied'],
    ['functions/b.sql', 'changed'],
    ['functions/c.sql', 'pending'],
  ])
})

test('a changed migration is shown by the status and refused by migrate', async () => {
  await apply(await folderOf({}))
  const edited = await folderOf({}, { '1_things.sql': 'create table rowhouse.things (id bigint)' })
  const status = await migrationStatusOfFiles({ connectionString: database.url }, edited)
  expect(status.files[1]).toMatchObject({ file: 'migrations/1_things.sql', state: 'changed' })
  expect(status.upToDate).toBe(false)
  const error = await failureOf(migrateFiles({ connectionString: database.url }, {}, edited))
  expect(error.code).toBe('migration_failed')
  expect(error.message).toContain('migrations/1_things.sql changed after it was applied')
})

test('a migration that asks to run outside the transaction is refused before anything runs', async () => {
  const folder = await folderOf({}, { '1_x.sql': '-- postgres-migrations disable-transaction\nselect 1' })
  await expect(apply(folder)).rejects.toThrow(/migrations\/1_x\.sql asks to run outside a transaction/)
})
