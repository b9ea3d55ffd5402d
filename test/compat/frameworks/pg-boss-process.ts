import { PgBoss } from 'pg-boss'
import { createRowhouse, defineJobs } from 'rowhouse'
import { pgBoss, workWithPgBoss } from 'rowhouse/pg-boss'
import { hang } from './hang.ts'

const [connectionString, ownerUrl] = process.argv.slice(2) as [string, string]
const rowhouse = createRowhouse({ connectionString, poolOptions: { max: 3 } })
const jobs = defineJobs(rowhouse, { queue: pgBoss(), tasks: { count: { handler: hang, leaseMs: 1000 } } })
const boss = new PgBoss({ connectionString: ownerUrl, max: 4 })
await boss.start()
await workWithPgBoss(boss, jobs, { pollingIntervalSeconds: 0.5 })
