import { QUOTAS, route } from '../../lib/route.js'

export const POST = route(() => Response.json({}), { quota: QUOTAS.paid })
