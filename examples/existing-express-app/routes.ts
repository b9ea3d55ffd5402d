import { Router } from 'express'
import type { AppDatabase } from './database.ts'
import * as repository from './repository.ts'

/** The routes of the application: the same file before and after. */
export const routes = Router()

routes.get('/customers', async (request, response) => {
  const { accountId, db } = response.locals as RequestState
  const { name } = request.query
  const customers =
    typeof name === 'string'
      ? await repository.searchCustomers(db, accountId, name)
      : await repository.listCustomers(db, accountId)
  response.json(customers)
})

routes.get('/invoices', async (_request, response) => {
  const { accountId, db } = response.locals as RequestState
  response.json(await repository.listInvoices(db, accountId))
})

routes.post('/invoices', async (request, response) => {
  const { accountId, db } = response.locals as RequestState
  response.status(201).json({ id: await repository.createInvoice(db, accountId, request.body) })
})

routes.get('/invoices/:id', async (request, response) => {
  const { db } = response.locals as RequestState
  const invoice = await repository.findInvoice(db, request.params.id)
  response.status(invoice === undefined ? 404 : 200).json(invoice ?? { error: 'no such invoice' })
})

routes.post('/invoices/:id/payment', async (request, response) => {
  const { db } = response.locals as RequestState
  const paid = await repository.payInvoice(db, request.params.id)
  response.status(paid ? 200 : 404).json({ paid })
})

routes.get('/revenue', async (_request, response) => {
  const { db } = response.locals as RequestState
  response.json(await repository.reportRevenue(db))
})

/** What the middleware in front of the routes leaves in `response.locals`. */
interface RequestState {
  readonly accountId: string
  readonly db: AppDatabase
}
