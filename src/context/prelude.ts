import type { AccessMode, IsolationLevel } from 'kysely'
import pg from 'pg'
import type { Seal } from './seal.ts'

/** A statement of our own; with a parameter where nobody else may see its value in pg_stat_activity. */
export type PreludeStatement = string | { readonly sql: string; readonly parameter: string }

/** Who a transaction runs as. */
export interface Identity {
  /** The role of the transaction; undefined keeps the login. */
  readonly role: string | undefined
  /** Without one, no tenant is entered: operators, and the look at the database before the first tenant. */
  readonly tenantId?: string
  readonly userId?: string
  readonly requestId?: string
  /** Whether the transaction only settles calls, or records what happened; a tenant that was suspended meanwhile may. */
  readonly settles?: boolean | undefined
  /** Whether the one statement of the transaction enters the tenant by itself, as the functions of budgets do. */
  readonly entersItself?: boolean | undefined
  /** Whether functions of rowhouse tell how far they are. */
  readonly reportsProgress?: boolean | undefined
  /** With the key of sealed contexts. */
  readonly seal?: Seal | undefined
}

export interface TransactionSettings {
  readonly isolationLevel?: IsolationLevel | undefined
  readonly accessMode?: AccessMode | undefined
}

/**
 * The statements that open a transaction, in the order in which they run.
 *
 * `begin` stands alone and the isolation level follows: a failing `start transaction isolation level ...` would leave
 * no transaction at all, and what is already on its way behind it would run without a tenant. Settings are written as
 * `set local`, because hardened servers revoke `set_config`.
 */
export function transactionPrelude(
  identity: readonly PreludeStatement[],
  settings: TransactionSettings,
): PreludeStatement[] {
  const { isolationLevel, accessMode } = settings
  const statements: PreludeStatement[] = ['begin']
  if (isolationLevel !== undefined) statements.push(`set transaction isolation level ${isolationLevel}`)
  if (accessMode !== undefined) statements.push(`set transaction ${accessMode}`)
  statements.push(...identity)
  return statements
}

/** The statements that make a transaction run as a tenant, or as an operator. */
export function identityStatements({
  role,
  tenantId = '',
  userId = '',
  requestId = '',
  settles = false,
  entersItself = false,
  reportsProgress = false,
  seal,
}: Identity): PreludeStatement[] {
  const statements: PreludeStatement[] = role === undefined ? [] : [`set local role ${pg.escapeIdentifier(role)}`]
  const set = (name: string, value: string) => statements.push(`set local ${name} = ${pg.escapeLiteral(value)}`)
  const isOperator = tenantId === ''
  set('app.tenant_id', tenantId)
  // Otherwise the call below empties what a transaction leaves out, in a fifth of the time.
  const isEntered = !entersItself || seal !== undefined
  if (userId !== '' || isOperator || !isEntered) set('app.user_id', userId)
  if (requestId !== '' || isOperator) set('app.request_id', requestId)
  if (reportsProgress) set('rowhouse.reports_progress', 'on')
  if (isOperator) return statements
  if (settles) set('rowhouse.settles', 'on')
  if (!isEntered) return statements
  // Unknown and suspended tenants are refused in the same round trip.
  const has = `${userId !== ''}, ${requestId !== ''}`
  statements.push(
    seal === undefined
      ? `call rowhouse.enter(${has})`
      : { sql: `call rowhouse.enter_sealed($1, ${has})`, parameter: seal.prove(tenantId) },
  )
  return statements
}

/**
 * What a transaction can leave on a connection is removed by one call: held cursors, temporary objects, the last values
 * of sequences, listeners, session advisory locks, a session role, session settings.
 *
 * After a transaction on a pool that the application shares with us, its own session settings stay.
 */
export const CLEAN_UP_SHARED: readonly string[] = ['call rowhouse.clean_connection(false)']

/** After a transaction on a pool of our own: every setting goes back to what the connection began with. */
export const CLEAN_UP_OWN: readonly string[] = ['call rowhouse.clean_connection(true)']
