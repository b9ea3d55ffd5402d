import { LIMITS, route } from '../../lib/route.js'

export const GET = route(() => Response.json({}), { rateLimit: LIMITS.limited })
