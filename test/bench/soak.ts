import { runRandomOperations } from '../budgets/run-random-operations.ts'
import type { BenchContext } from './run.ts'

/** The long form of test/budgets/random-operations.test.ts: `npm run soak`, or with another number and seed. */
export default async function soak({ urls, args }: BenchContext): Promise<void> {
  const [operations = '1000000', seed = String(Date.now() % 1_000_000)] = args
  const { app, operator, superuser } = urls
  if (app === undefined || operator === undefined || superuser === undefined) {
    throw new Error('soak needs a server with a superuser')
  }
  console.log(`${operations} operations, seed ${seed}`)
  const { problems, ...report } = await runRandomOperations({
    urls: { app, operator, superuser },
    operations: Number(operations),
    seed: Number(seed),
    log: console.log,
  })
  console.log(report)
  for (const problem of problems) console.error(problem)
  if (problems.length > 0) process.exitCode = 1
  else console.log('Nothing overspent, nothing lost: the books balance.')
}
