import { join } from 'node:path'
import type { QueryConfig } from 'pg'
import { loadMigrationFiles, migrate as runPostgresMigrations } from 'postgres-migrations'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { migrate } from '../../src/migrate/migrate.ts'
import { createSqlFolder, createTestDatabase, removeSqlFolder, type TestDatabase, useServer } from './support.ts'

useServer()

/** What src/migrate/run-migrations.ts relies on: another version of postgres-migrations must not change it silently. */

let database: TestDatabase
let root: string
let folder: string

beforeEach(async () => {
  database = await createTestDatabase()
  root = await createSqlFolder({ '1_first.sql': 'create table first (id int)' })
  folder = join(root, 'migrations')
})
afterEach(async () => {
  await database.drop()
  await removeSqlFolder(root)
})

test('it sends exactly the statements that are known', async () => {
  const client = await database.connect()
  const statements: string[] = []
  const recorder = {
    query(input: string | QueryConfig) {
      const text = typeof input === 'string' ? input : input.text
      statements.push(text.replaceAll(/\s+/g, ' ').trim())
      return client.query(input as QueryConfig)
    },
  }
  await runPostgresMigrations({ client: recorder as never }, folder)
  expect(statements.map((statement) => statement.slice(0, 60))).toEqual([
    'SELECT pg_try_advisory_lock(-8525285245963000605);',
    "SELECT EXISTS ( SELECT 1 FROM pg_catalog.pg_class c WHERE c.relname = $1 AND c.relkind = 'r' );".slice(0, 60),
    'START TRANSACTION',
    'CREATE TABLE IF NOT EXISTS migrations ( id integer PRIMARY K',
    'INSERT INTO migrations ("id", "name", "hash") VALUES ($1,$2,',
    'COMMIT',
    'START TRANSACTION',
    'create table first (id int)',
    'INSERT INTO migrations ("id", "name", "hash") VALUES ($1,$2,',
    'COMMIT',
    'SELECT pg_advisory_unlock(-8525285245963000605);',
  ])
})

test('its own file number 0, which is stored with a hash, has not changed', async () => {
  const [own] = await loadMigrationFiles(folder)
  expect(own).toMatchObject({
    id: 0,
    name: 'create-migrations-table',
    hash: 'e18db593bcde2aca2a408c4d1100f6abba2195df',
  })
})

test('our table has the shape of its table', async () => {
  const client = await database.connect()
  await runPostgresMigrations({ client }, folder)
  await migrate({ connectionString: database.url })
  const shape = (table: string) =>
    database.admin(
      `select a.attname, format_type(a.atttypid, a.atttypmod) as type, a.attnotnull,
         pg_get_expr(d.adbin, d.adrelid) as default,
         (select array_agg(pg_get_constraintdef(k.oid) order by k.contype) from pg_constraint k where k.conrelid = a.attrelid) as keys
       from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
       where a.attrelid = $1::regclass and a.attnum > 0 order by a.attnum`,
      [table],
    )
  expect(await shape('rowhouse.migrations')).toEqual(await shape('public.migrations'))
})
