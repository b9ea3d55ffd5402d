import { readSession, route } from '../../../lib/route.js'

export const GET = route(async (_request, { tenant }, { params }) => {
  const { id } = await params
  return Response.json(await readSession(tenant, id))
})
