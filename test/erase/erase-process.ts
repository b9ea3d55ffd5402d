// Erases a tenant: node erase-process.ts <url of the owner> <tenant>
import { createRowhouse } from '../../src/index.ts'

const [url, tenantId] = process.argv.slice(2) as [string, string]
const connectionString = new URL(url)
connectionString.searchParams.set('application_name', 'erases')
const rowhouse = createRowhouse({ connectionString: connectionString.href })
const { rows } = await rowhouse.tenants.erase(tenantId)
process.send!({ rows })
await rowhouse.close()
process.disconnect()
