import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type pg from 'pg'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { MIGRATION_LOCK } from '../../src/migrate/lock.ts'
import { migrate } from '../../src/migrate/migrate.ts'
import type { MigrationReport } from '../../src/migrate/report.ts'
import { SQL_FOLDER } from '../../src/migrate/sql-files.ts'
import { poll } from '../setup/connection.ts'
import { createTestDatabase, type TestDatabase, useServer } from './support.ts'

const WAITS = { message: () => 'nobody waits for the lock', timeoutMs: 10_000 }

useServer()

let databases: TestDatabase[]

beforeEach(() => {
  databases = []
})
afterEach(async () => {
  for (const database of databases) await database.drop()
})

async function newDatabase(): Promise<TestDatabase> {
  const database = await createTestDatabase()
  databases.push(database)
  return database
}

function howOftenApplied(reports: readonly MigrationReport[], file: string): number {
  return reports.filter(({ applied }) => applied.some((entry) => entry.file === file)).length
}

describe('many migrations at once', () => {
  test('20 connections in one database: each file is applied once, nobody polls', async () => {
    const database = await newDatabase()
    const begun = performance.now()
    const reports = await Promise.all(Array.from({ length: 20 }, () => migrate({ connectionString: database.url })))
    const duration = performance.now() - begun

    expect(howOftenApplied(reports, 'bootstrap.sql')).toBe(1)
    expect(howOftenApplied(reports, 'migrations/1_tenants.sql')).toBe(1)
    expect(howOftenApplied(reports, 'functions/context.sql')).toBe(1)
    // postgres-migrations alone looks for its lock once a second: 20 of them one after the other take much longer.
    expect(duration).toBeLessThan(15_000)
  })

  test('5 databases of one server at once, 4 connections each', async () => {
    for (let index = 0; index < 5; index++) await newDatabase()
    const runs = databases.flatMap((database) => [0, 1, 2, 3].map(() => migrate({ connectionString: database.url })))
    const reports = await Promise.all(runs)
    expect(howOftenApplied(reports, 'migrations/1_tenants.sql')).toBe(5)
  })

  test('a run waits while another one holds the lock', async () => {
    const database = await newDatabase()
    const holder = await database.connect()
    await holder.query(`begin; select pg_advisory_xact_lock(${MIGRATION_LOCK.join(', ')})`)
    let finished = false
    const run = migrate({ connectionString: database.url }).finally(() => {
      finished = true
    })
    await poll(async () => {
      const waiting = await database.admin(
        `select from pg_locks where locktype = 'advisory' and not granted and classid = $1 and objid = $2
          and database = (select oid from pg_database where datname = current_database())`,
        [...MIGRATION_LOCK],
      )
      return waiting.length === 1 || undefined
    }, WAITS)
    expect(finished).toBe(false)
    await holder.query('commit')
    expect((await run).applied.length).toBeGreaterThan(1)
  })

  test('without the lock, two bootstraps at once collide (control)', async () => {
    const database = await newDatabase()
    const bootstrap = await readFile(join(SQL_FOLDER, 'bootstrap.sql'), 'utf8')
    const [first, second] = [await database.connect(), await database.connect()]
    await first.query(`begin; ${bootstrap}`)
    const collision = second.query(`begin; ${bootstrap}; commit`).then(
      () => undefined,
      (error: { code?: string }) => error.code,
    )
    // Its own wait: other files run on the same server.
    const { processID } = second as pg.Client & { processID: number }
    await poll(
      async () => (await database.admin('select from pg_locks where not granted and pid = $1', [processID]))[0],
      WAITS,
    )
    await first.query('commit')
    expect(['23505', '42P06', '42710', 'XX000']).toContain(await collision)
  })
})

test('a lock that the application holds for long is waited for in turns, and the run succeeds in the end', async () => {
  const database = await newDatabase()
  await migrate({ connectionString: database.url })
  await database.admin("update rowhouse.applied_functions set checksum = 'x' where file <> 'bootstrap.sql'")
  const application = await database.connect(database.adminUrl)
  await application.query('begin; select from rowhouse.tenants; lock table rowhouse.tenants in access exclusive mode')
  const run = migrate({ connectionString: database.url })
  setTimeout(() => void application.query('commit'), 2_300)
  expect(howOftenApplied([await run], 'functions/tenants.sql')).toBe(1)
}, 30_000)
