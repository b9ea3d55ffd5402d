// A process that sweeps one tenant: node sweep-process.ts <url of the application> <url of an operator> <tenant>
import { createRowhouse } from '../../src/index.ts'

const [connectionString, operatorUrl, tenantId] = process.argv.slice(2) as [string, string, string]
const rowhouse = createRowhouse({
  connectionString,
  poolOptions: { max: 1 },
  admin: { connectionString: operatorUrl, poolOptions: { max: 1 } },
})
// Connected, so that all begin at once.
await rowhouse.tenant(tenantId).state.get('x')
process.send!('ready')
process.once('message', async () => {
  const batches: number[] = []
  const swept = await rowhouse.sweep({ tenantId, onBatch: ({ removed }) => batches.push(removed) })
  await rowhouse.close()
  process.send!({ swept: swept[0], largest: Math.max(0, ...batches) }, () => process.exit(0))
})
