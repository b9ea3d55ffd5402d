import { Logger, run } from 'graphile-worker'
import { createRowhouse, defineJobs } from 'rowhouse'
import { graphileTasks, graphileWorker } from 'rowhouse/graphile-worker'
import { hang } from './hang.ts'

const [connectionString, ownerUrl] = process.argv.slice(2) as [string, string]
const rowhouse = createRowhouse({ connectionString, poolOptions: { max: 3 } })
const jobs = defineJobs(rowhouse, { queue: graphileWorker(), tasks: { count: { handler: hang, leaseMs: 1000 } } })
await run({
  connectionString: ownerUrl,
  logger: new Logger(() => () => {}),
  pollInterval: 100,
  taskList: graphileTasks(jobs),
})
