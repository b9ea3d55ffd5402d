import express, { type ErrorRequestHandler } from 'express'
import { authenticate } from '../authenticate.ts'
import type { AppDatabase } from '../database.ts'
import { routes } from '../routes.ts'

/** The application before adoption. */
export function createApp(db: AppDatabase) {
  const app = express()
  app.use(express.json())
  app.use(authenticate(db))
  app.use((_request, response, next) => {
    response.locals.db = db
    next()
  })
  app.use(routes)
  app.use(answerError)
  return app
}

const answerError: ErrorRequestHandler = (_error, _request, response, _next) => {
  response.status(500).json({ error: 'internal error' })
}
