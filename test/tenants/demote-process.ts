// Demotes a tenant: node demote-process.ts <url of the owner> <tenant>
import { createRowhouse } from '../../src/index.ts'

const [url, tenantId] = process.argv.slice(2) as [string, string]
const connectionString = new URL(url)
connectionString.searchParams.set('application_name', 'demotes')
// So that the server ends the statement of a process that was killed.
connectionString.searchParams.set('options', '-c client_connection_check_interval=20ms')
const rowhouse = createRowhouse({ connectionString: connectionString.href })
process.send!('begun')
await rowhouse.tenants.demote(tenantId)
process.send!('done')
await rowhouse.close()
process.disconnect()
