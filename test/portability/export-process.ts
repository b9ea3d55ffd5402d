// Exports and imports a tenant in a process of its own, whose heap is small, and prints how much memory it took.
// Arguments: URL, tenant, file, id of the copy.

import { createReadStream, createWriteStream } from 'node:fs'
import { createRowhouse } from '../../src/index.ts'

const [url = '', tenantId = '', file = '', copyId = ''] = process.argv.slice(2)
const rowhouse = createRowhouse({ connectionString: url })
const started = performance.now()
const exported = await rowhouse.tenants.export(tenantId, { to: createWriteStream(file) })
const exportedAt = performance.now()
const imported = await rowhouse.tenants.import(createReadStream(file), { as: copyId })
console.log(
  JSON.stringify({
    rows: exported.rows,
    bytes: exported.bytes,
    exportMs: exportedAt - started,
    importMs: performance.now() - exportedAt,
    same: exported.contentHash === imported.contentHash,
    memory: process.resourceUsage().maxRSS * 1024,
  }),
)
await rowhouse.close()
