import type pg from 'pg'
import * as z from 'zod'
import { parseOptions, parseTenantId } from '../context/context-options.ts'
import { mapDatabaseError } from '../errors.ts'
import { protectOnline } from './protect-online.ts'
import type { ProtectedTable, ProtectionReport, ProtectionStep } from './protection-report.ts'
import { quoteTableName, type TableName } from './table-name.ts'

export interface ProtectOptions {
  /** The tenant column: text, varchar, uuid, integer or bigint; added as text when missing. Default `tenant_id`. */
  readonly column?: string | undefined
  /** The tenant that existing rows without one belong to. */
  readonly existingRows?: string | undefined
  /** Also partitions the table by tenant, so that tenants can be promoted. Rewrites the table. */
  readonly partition?: boolean | undefined
  /** Changes nothing; the report lists the statements and findings. */
  readonly dryRun?: boolean | undefined
  /** Runs each statement in a transaction of its own with a short lock timeout, and indexes concurrently. */
  readonly online?: boolean | undefined
  /** Called after each statement of an online protection. */
  readonly onProgress?: ((step: ProtectionStep) => void) | undefined
}

const protectOptions = z.strictObject({
  column: z.string().min(1).max(63).optional(),
  existingRows: z.string().optional(),
  partition: z.boolean().optional(),
  dryRun: z.boolean().optional(),
  online: z.boolean().optional(),
  onProgress: z.custom<(step: ProtectionStep) => void>((value) => typeof value === 'function').optional(),
})

const auditOptions = z.strictObject({ except: z.array(z.string().max(63)).optional() })

/** Runs a callback on a connection of the owner's login, outside the pool. */
export type OwnerConnection = <T>(fn: (client: pg.ClientBase) => Promise<T>) => Promise<T>

/** Protects a table. Runs with the rights of the login, which must own it. */
export async function protectTable(
  connection: OwnerConnection,
  name: TableName,
  options: ProtectOptions = {},
): Promise<ProtectionReport> {
  parseOptions(protectOptions, options)
  const { column = 'tenant_id', partition = false, dryRun = false, online = false, onProgress } = options
  const table = quoteTableName(name)
  const existingRows = options.existingRows === undefined ? null : parseTenantId(options.existingRows)
  return runAsOwner(connection, async (client) => {
    if (online && !dryRun) return protectOnline(client, { table, column, existingRows, partition }, onProgress)
    const { rows } = await client.query<{ report: ProtectionReport }>(
      'select rowhouse.protect_table($1, $2, $3, $4, $5) as report',
      [table, column, existingRows, partition, dryRun],
    )
    return rows[0]!.report
  })
}

/** Keeps the history of a table's rows in the audit trails of their tenants. */
export async function auditTable(
  connection: OwnerConnection,
  name: TableName,
  options: { readonly except?: readonly string[] | undefined } = {},
): Promise<void> {
  const { except = [] } = parseOptions(auditOptions, options)
  const table = quoteTableName(name)
  await runAsOwner(connection, (client) => client.query('select rowhouse.audit_table($1, $2)', [table, except]))
}

/** Ends the history; what was recorded stays. */
export async function unauditTable(connection: OwnerConnection, name: TableName): Promise<void> {
  const table = quoteTableName(name)
  await runAsOwner(connection, (client) => client.query('select rowhouse.unaudit_table($1)', [table]))
}

/** Takes the protection back; the tenant column and its values stay. */
export async function unprotectTable(connection: OwnerConnection, name: TableName): Promise<void> {
  const table = quoteTableName(name)
  await runAsOwner(connection, (client) => client.query('select rowhouse.unprotect_table($1)', [table]))
}

/** Declares that a table with a tenant column holds nothing that must go when a tenant is erased. */
export async function exemptTable(connection: OwnerConnection, name: TableName, reason: string): Promise<void> {
  const table = quoteTableName(name)
  await runAsOwner(connection, (client) => client.query('select rowhouse.exempt_table($1, $2)', [table, reason]))
}

/** The registry. */
export async function listProtectedTables(connection: OwnerConnection): Promise<ProtectedTable[]> {
  return runAsOwner(connection, async (client) => {
    const { rows } = await client.query<ProtectedTable>(`
      select format('%I.%I', n.nspname, c.relname) as "table", p.tenant_column as "column",
             format_type(p.column_type, null) as "columnType", p.layout, p.protected_at as "protectedAt"
        from rowhouse.protected_tables p
        join pg_class c on c.oid = p.relation
        join pg_namespace n on n.oid = c.relnamespace
        order by n.nspname, c.relname`)
    return rows
  })
}

/** Errors of the database become those of rowhouse. */
export async function runAsOwner<T>(
  connection: OwnerConnection,
  fn: (client: pg.ClientBase) => Promise<T>,
): Promise<T> {
  try {
    return await connection(fn)
  } catch (error) {
    throw mapDatabaseError(error)
  }
}
