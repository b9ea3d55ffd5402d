import { LIMITS, route } from '../../lib/route.js'

// The headers of such an answer can't be changed.
export const GET = route(() => Response.redirect('https://example.com/'), {
  rateLimit: { ...LIMITS.limited, name: 'redirect' },
})
