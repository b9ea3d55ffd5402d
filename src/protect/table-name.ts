import pg from 'pg'
import { createRowhouseError } from '../errors.ts'

/** `'invoices'`, `'billing.invoices'`, or the parts for names that need quotes. */
export type TableName = string | { readonly schema?: string | undefined; readonly table: string }

const PLAIN_NAME = /^([a-z_][a-z0-9_$]*)(?:\.([a-z_][a-z0-9_$]*))?$/

/** The name as SQL that casts to `regclass`. Text is taken apart only where it needs no quotes. */
export function quoteTableName(name: TableName): string {
  if (typeof name === 'string') {
    if (PLAIN_NAME.test(name)) return name
    throw createRowhouseError(
      'invalid_argument',
      `${JSON.stringify(name)} is not of the form "table" or "schema.table".`,
      {
        hint: "Give names that need quotes in parts: { schema: 'My Schema', table: 'My Table' }.",
      },
    )
  }
  const { schema, table } = name
  return schema === undefined
    ? pg.escapeIdentifier(table)
    : `${pg.escapeIdentifier(schema)}.${pg.escapeIdentifier(table)}`
}
