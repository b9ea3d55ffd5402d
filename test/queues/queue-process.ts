// A process that uses a queue: node queue-process.ts <url> <tenant> <queue> <hold|wait|work> [options as JSON]
import { setTimeout as sleep } from 'node:timers/promises'
import { createRowhouse } from '../../src/index.ts'

const [connectionString, tenant, name, what, json = '{}'] = process.argv.slice(2) as [
  string,
  string,
  string,
  string,
  string?,
]
const options = JSON.parse(json)
const rowhouse = createRowhouse({ connectionString, poolOptions: { max: 3 } })
const queue = rowhouse.tenant(tenant).queue(name)
if (what === 'hold') {
  await queue.run(async () => {
    process.send!('at work')
    await sleep(60_000)
  }, options)
} else if (what === 'wait') {
  const ticket = await queue.enqueue(options)
  process.send!(ticket.id)
  await ticket.wait()
} else {
  // So many requests at once; each writes down when it began and ended, by the order in which the database saw it.
  await Promise.all(
    Array.from({ length: options.requests }, () =>
      queue.run(
        async () => {
          const [began] = await rowhouse.query(tenant, (db) =>
            db.insertInto('public.log').values({ began: true }).returning('at'),
          )
          await sleep(5)
          await rowhouse.query(tenant, (db) => db.insertInto('public.log').values({ began: false }).returning('at'))
          return began
        },
        { deadlineMs: 60_000 },
      ),
    ),
  )
  await rowhouse.close()
  process.send!('done')
  process.disconnect!()
}
