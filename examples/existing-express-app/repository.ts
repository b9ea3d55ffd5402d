/**
 * The queries of the application: the same file before and after. Several of them are wrong, in the ways that such code is
 * usually wrong; see the comments.
 */
import { sql } from 'kysely'
import type { AppDatabase } from './database.ts'

export interface NewInvoice {
  readonly customerId: string
  readonly lines: readonly { readonly description: string; readonly amountCents: number }[]
}

export function listCustomers(db: AppDatabase, accountId: string) {
  return db.selectFrom('customers').selectAll().where('account_id', '=', accountId).orderBy('id').execute()
}

/** Wrong: the name goes into the statement as text, so a quotation mark ends it. */
export async function searchCustomers(db: AppDatabase, accountId: string, name: string) {
  const { rows } = await sql<{ name: string; email: string }>`
    select name, email from customers where account_id = ${sql.lit(accountId)} and name like '%${sql.raw(name)}%'
    order by id`.execute(db)
  return rows
}

export function listInvoices(db: AppDatabase, accountId: string) {
  return db
    .selectFrom('invoices')
    .innerJoin('customers', 'customers.id', 'invoices.customer_id')
    .innerJoin('invoice_lines', 'invoice_lines.invoice_id', 'invoices.id')
    .where('invoices.account_id', '=', accountId)
    .groupBy(['invoices.id', 'customers.name', 'invoices.status'])
    .select((e) => [
      'invoices.id',
      'customers.name as customer',
      'invoices.status',
      e.fn.sum<string>('invoice_lines.amount_cents').as('total_cents'),
    ])
    .orderBy('invoices.id')
    .execute()
}

/** Wrong: whoever counts up the ids reads the invoices of every account. */
export async function findInvoice(db: AppDatabase, invoiceId: string) {
  const invoice = await db.selectFrom('invoices').selectAll().where('id', '=', invoiceId).executeTakeFirst()
  if (invoice === undefined) return undefined
  const lines = await db
    .selectFrom('invoice_lines')
    .select(['description', 'amount_cents'])
    .where('invoice_id', '=', invoiceId)
    .orderBy('id')
    .execute()
  return { ...invoice, lines }
}

/** Wrong: the filter is missing, so the report adds up all accounts. */
export function reportRevenue(db: AppDatabase) {
  return db
    .selectFrom('invoice_lines')
    .innerJoin('invoices', 'invoices.id', 'invoice_lines.invoice_id')
    .select((e) => ['invoices.status', e.fn.sum<string>('amount_cents').as('total_cents')])
    .groupBy('invoices.status')
    .orderBy('invoices.status')
    .execute()
}

export function createInvoice(db: AppDatabase, accountId: string, invoice: NewInvoice) {
  return db.transaction().execute(async (transaction) => {
    const { id } = await transaction
      .insertInto('invoices')
      .values({ account_id: accountId, customer_id: invoice.customerId })
      .returning('id')
      .executeTakeFirstOrThrow()
    await transaction
      .insertInto('invoice_lines')
      .values(
        invoice.lines.map((line) => ({
          account_id: accountId,
          invoice_id: id,
          description: line.description,
          amount_cents: line.amountCents,
        })),
      )
      .execute()
    return id
  })
}

/** Wrong like findInvoice: marks the invoice of any account as paid. */
export async function payInvoice(db: AppDatabase, invoiceId: string): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable('invoices')
    .set({ status: 'paid' })
    .where('id', '=', invoiceId)
    .executeTakeFirst()
  return numUpdatedRows > 0n
}
