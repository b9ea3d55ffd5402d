import { afterAll, beforeAll, expect, test } from 'vitest'
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../src/embedded/index.ts'
import { migrate } from '../../src/migrate/migrate.ts'
import { migrationStatus } from '../../src/migrate/status.ts'

/** The embedded Postgres lets one transaction run at a time and shares one session: no lock may wait for another. */

let postgres: EmbeddedPostgres

beforeAll(async () => {
  postgres = await startEmbeddedPostgres()
})
afterAll(() => postgres.close())

test('20 migrations at once install into the embedded Postgres, and once only', async () => {
  const connection = { connectionString: postgres.connectionString }
  const reports = await Promise.all(Array.from({ length: 20 }, () => migrate(connection)))
  expect(reports.filter(({ applied }) => applied.length > 0)).toHaveLength(1)
  expect((await migrationStatus(connection)).upToDate).toBe(true)
  expect((await migrate(connection, { dryRun: true })).applied).toEqual([])
})
