import { countOpenTransactions, LIMITS, route, rowhouse } from '../../lib/route.js'

export const POST = route(async () => Response.json(await countOpenTransactions(rowhouse)), {
  rateLimit: LIMITS.byRoute,
  quota: {},
})
