import type { Generated, Kysely } from 'kysely'

/** The tables of schema.sql, as Kysely sees them. */
export interface Database {
  accounts: { id: Generated<string>; name: string; api_token: string }
  customers: { id: Generated<string>; account_id: string; name: string; email: string }
  invoices: {
    id: Generated<string>
    account_id: string
    customer_id: string
    status: Generated<string>
    created_at: Generated<Date>
  }
  invoice_lines: {
    id: Generated<string>
    account_id: string
    invoice_id: string
    description: string
    amount_cents: number
  }
}

export type AppDatabase = Kysely<Database>
