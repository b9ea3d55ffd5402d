import express, { type ErrorRequestHandler } from 'express'
import { type Rowhouse, RowhouseError } from '../../../src/index.ts'
import { authenticate } from '../authenticate.ts'
import type { AppDatabase, Database } from '../database.ts'
import { routes } from '../routes.ts'

/** The application after adoption. */
export function createApp(db: AppDatabase, rowhouse: Rowhouse<Database>) {
  const app = express()
  app.use(express.json())
  app.use(authenticate(db))
  app.use((_request, response, next) => {
    response.locals.db = rowhouse.kysely(response.locals.accountId)
    next()
  })
  app.use(routes)
  app.use(answerError)
  return app
}

const answerError: ErrorRequestHandler = (error, _request, response, _next) => {
  const status = error instanceof RowhouseError ? error.httpStatus : 500
  response.status(status).json({ error: status < 500 ? error.message : 'internal error' })
}
