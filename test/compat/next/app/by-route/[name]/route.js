import { LIMITS, route } from '../../../lib/route.js'

export const GET = route(async (_request, _tenantRequest, { params }) => Response.json(await params), {
  rateLimit: LIMITS.byRoute,
})
