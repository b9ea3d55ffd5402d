// Nothing is overspent and nothing is lost, whatever races, dies or is repeated. Longer: npm run test:soak, npm run soak.
import { expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { runRandomOperations } from './run-random-operations.ts'

const database = useDatabase({ needs: ['parallelBackends', 'superuser'] })
/** `npm run test:soak` asks for 50,000, `npm run soak` for as many as one likes. */
const operations = Number(process.env.ROWHOUSE_RANDOM_OPERATIONS ?? 15_000)
const seed = Number(process.env.SEED ?? Date.now() % 1_000_000)
const urls = () => ({
  app: database.url('app'),
  operator: database.url('operator'),
  superuser: database.url('superuser'),
})

test(`${operations} random operations over 20 connections, killed processes and terminated backends`, {
  timeout: 600_000,
}, async () => {
  const { problems, ...report } = await runRandomOperations({ urls: urls(), operations, seed })
  console.log(`seed ${seed}`, report)
  expect(problems).toEqual([])
  expect(report.operations).toBeGreaterThanOrEqual(operations)
  expect(report.killedProcesses).toBeGreaterThan(0)
  expect(report.terminatedBackends).toBeGreaterThan(0)
  for (const what of ['settle', 'settle again', 'settle late', 'release', 'extend', 'denied: money_per_month']) {
    expect(report.counts[what], what).toBeGreaterThan(0)
  }
})

test('negative control: without the lock on the account, the constraint of the table has to stop what races', {
  timeout: 120_000,
}, async () => {
  const superuser = await database.connect('superuser')
  const { rows } = await superuser.query<{ source: string }>(
    `select pg_get_functiondef('rowhouse.open_account(text)'::regprocedure) as source`,
  )
  const { source } = rows[0]!
  expect(source).toContain('for update of a')
  await superuser.query(source.replace('for update of a', ''))
  // Whether two calls race at the edge of a limit is chance, so there are several histories.
  let stopped: string[] = []
  for (let history = 1; history <= 8 && stopped.length === 0; history++) {
    const { problems } = await runRandomOperations({ urls: urls(), operations: 5000, seed: seed + history })
    stopped = problems.filter((problem) => problem.includes('quota_counters_within_allowance'))
  }
  expect(stopped).not.toEqual([])
})
