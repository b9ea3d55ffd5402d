import { eraseInterrupted, INTERRUPTIONS } from '../erase/interrupted-erasure.ts'
import { findPgDump } from '../erase/search-dump.ts'
import type { BenchContext } from './run.ts'

export const settings = { max_wal_size: '4GB' }

/**
 * Erasure of a tenant in a database of 120 tables with foreign keys in circles, cut off at 20 random points, and then a
 * dump of the whole database that is searched for what the tenant had. 5,000,000 rows, a twentieth of them the tenant's:
 * `npm run bench -- erase-large`; `npm run bench -- erase-large 200000 120 6` for other numbers of rows, tables, points.
 */
export default async function benchEraseLarge({ urls, args }: BenchContext): Promise<void> {
  const [rows = 5_000_000, tables = 120, points = 20] = args.map(Number)
  const { app, owner, superuser } = urls
  const pgDump = superuser && (await findPgDump(superuser))
  if (pgDump === undefined || app === undefined || owner === undefined || superuser === undefined) {
    throw new Error('erase-large needs pg_dump and a superuser')
  }
  const started = performance.now()
  const result = await eraseInterrupted({
    urls: { app, owner, superuser },
    pgDump,
    tables,
    rows,
    tenants: 20,
    interruptions: Array.from({ length: points }, (_, index) => INTERRUPTIONS[index % INTERRUPTIONS.length]!),
    log: (line) => console.log(`${((performance.now() - started) / 1000).toFixed(0).padStart(5)} s  ${line}`),
  })
  const { erased, cutOff, dumpBytes } = result
  console.log(
    `\n${rows.toLocaleString('en')} rows, ${tables} tables, ${result.tenantRows.toLocaleString('en')} rows of the tenant`,
  )
  console.log(`erased: ${Math.round(erased.rows / erased.seconds).toLocaleString('en')} rows/s`)
  console.log(
    `cut off: ${Object.entries(cutOff)
      .map(([what, times]) => `${what} ${times} times`)
      .join(', ')}`,
  )
  console.log(
    `${(dumpBytes / 1e6).toFixed(0)} MB of the dump searched for text, bytes and numbers of the tenant, and of another one`,
  )
  for (const problem of result.problems) console.error(problem)
  if (result.problems.length > 0) process.exitCode = 1
  else console.log('Nothing of the tenant is left, everything of the other one is.')
}
