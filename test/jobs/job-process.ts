// A worker: node job-process.ts <url of the application> <url of the owner> <whether the first attempt hangs> <lease>
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { createRowhouse, defineJobs, type RunningJob } from '../../src/index.ts'
import { tableQueue, takeWakeUp } from './table-queue.ts'

const [connectionString, ownerUrl, hangs, leaseMs] = process.argv.slice(2) as [string, string, string, string]
const rowhouse = createRowhouse({ connectionString, poolOptions: { max: 3 } })
const owner = new pg.Client(ownerUrl)
await owner.connect()
const jobs = defineJobs(rowhouse, {
  queue: tableQueue,
  tasks: {
    count: {
      leaseMs: Number(leaseMs),
      handler: async (_payload: null, job: RunningJob) => {
        await job.step('before', () => job.tenant.state.increment('before'))
        if (hangs === 'yes' && job.attempt === 1) {
          process.send!('at work')
          await sleep(60_000)
        }
        await job.step('after', () => job.tenant.state.increment('after'))
      },
    },
  },
})
process.send!('ready')
for (;;) {
  const payload = await takeWakeUp(owner)
  if (payload === undefined) await sleep(50)
  else await jobs.work(payload)
}
