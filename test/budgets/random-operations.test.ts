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
  expect(report.changedLimits).toBeGreaterThan(0)
  for (const what of [
    'settle',
    'settle again',
    'settle late',
    'release',
    'extend',
    'denied: money_per_month',
    'settle a part',
    'joined',
    'denied: rate_limited',
    'shared',
    'shared, not done',
  ]) {
    expect(report.counts[what], what).toBeGreaterThan(0)
  }
})
