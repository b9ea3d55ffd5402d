import type { RequestHandler } from 'express'
import type { AppDatabase } from './database.ts'

/** Finds the account of the request by its bearer token; it happens before any tenant is known. */
export function authenticate(db: AppDatabase): RequestHandler {
  return async function authenticateAccount(request, response, next) {
    const token = request.headers.authorization?.replace(/^Bearer /, '') ?? ''
    const account = await db.selectFrom('accounts').select('id').where('api_token', '=', token).executeTakeFirst()
    if (account === undefined) {
      response.status(401).json({ error: 'unknown token' })
      return
    }
    response.locals.accountId = account.id
    next()
  }
}
