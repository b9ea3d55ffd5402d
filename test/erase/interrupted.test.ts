// An erasure that is cut off at random points, time and again, and then a dump in which nothing of the tenant is found.
// `npm run bench -- erase-large` is the same with 120 tables and 5,000,000 rows, and kills backends too.
import { expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { eraseInterrupted } from './interrupted-erasure.ts'
import { findPgDump } from './search-dump.ts'

const database = useDatabase({ needs: ['parallelBackends', 'superuser'] })

test('nothing is left in a dump of the whole database, and everything of others', {
  timeout: 120_000,
}, async (context) => {
  const pgDump = await findPgDump(database.url('superuser'))
  if (pgDump === undefined) return context.skip('needs a pg_dump that is not older than the server')
  const { cutOff, tenantRows, problems } = await eraseInterrupted({
    urls: { app: database.url('app'), owner: database.url('owner'), superuser: database.url('superuser') },
    pgDump,
    tables: 12,
    rows: 20_000,
    tenants: 10,
    interruptions: [
      'backend terminated',
      'process killed',
      'backend terminated',
      'process killed',
      'backend terminated',
    ],
  })
  // Which also says that the search finds the canaries while they are there.
  expect(problems).toEqual([])
  expect(tenantRows).toBe(12 * Math.round(20_000 / 12 / 10))
  expect(Object.values(cutOff).reduce((sum, times) => sum + times, 0)).toBe(5)
})
