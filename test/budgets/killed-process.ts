// A process that is killed in the middle of a call: node killed-process.ts <url> <tenant>
import { createRowhouse } from '../../src/index.ts'

const [connectionString, tenant] = process.argv.slice(2) as [string, string]
const rowhouse = createRowhouse({ connectionString })
const call = { model: 'large', units: { inputTokens: 1000, outputTokens: 800 }, rateLimit: null, leaseMs: 1000 }
await rowhouse.tenant(tenant).budget.run(call, async () => {
  process.send!('at work')
  await new Promise((resolve) => setTimeout(resolve, 60_000))
})
