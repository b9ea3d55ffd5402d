import { meter, QUOTAS, route } from '../../lib/route.js'

export const POST = route(
  (request, { reportUsage }) => Response.json({}, { status: meter(request.url, reportUsage) }),
  { quota: QUOTAS.metered },
)
