import { createRowhouse } from 'rowhouse'
import { fromApiKey } from 'rowhouse/http'
import { tenantRoute } from 'rowhouse/next'

// One for the process, whatever modules are loaded twice.
globalThis.rowhouse ??= createRowhouse({ connectionString: process.env.DATABASE_URL, poolOptions: { max: 5 } })

export const rowhouse = globalThis.rowhouse
export const route = tenantRoute(rowhouse, { resolve: fromApiKey() })
export { countOpenTransactions, LIMITS, meter, QUOTAS, readSession } from '../../frameworks/limit-routes.ts'
