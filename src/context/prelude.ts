import type { AccessMode, IsolationLevel } from 'kysely'
import pg from 'pg'
import type { Seal } from './seal.ts'

/** A statement of our own; with a parameter where nobody else may see its value in pg_stat_activity. */
export type PreludeStatement = string | { readonly sql: string; readonly parameter: string }

/** Who a transaction runs as. */
export interface Identity {
  /** The role of the transaction; undefined keeps the login. */
  readonly role: string | undefined
  /** `''` for operators, who enter no tenant. */
  readonly tenantId: string
  readonly userId: string
  readonly requestId: string
  /** Whether the transaction only settles calls, which a tenant that was suspended meanwhile may do. */
  readonly settles?: boolean | undefined
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
 * no transaction at all, and what is already on its way behind it would run without a tenant. All settings are written
 * every time, so that nothing older shows through, and as `set local`, because hardened servers revoke `set_config`.
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
export function identityStatements({ role, tenantId, userId, requestId, settles, seal }: Identity): PreludeStatement[] {
  const statements: PreludeStatement[] = role === undefined ? [] : [`set local role ${pg.escapeIdentifier(role)}`]
  statements.push(
    `set local app.tenant_id = ${pg.escapeLiteral(tenantId)}`,
    `set local app.user_id = ${pg.escapeLiteral(userId)}`,
    `set local app.request_id = ${pg.escapeLiteral(requestId)}`,
  )
  // Unknown and suspended tenants are refused in the same round trip.
  if (tenantId === '') return statements
  if (settles) statements.push(`set local rowhouse.settles = 'on'`)
  statements.push(
    seal === undefined
      ? 'select rowhouse.enter_tenant()'
      : { sql: 'select rowhouse.enter_sealed_tenant($1)', parameter: seal.prove(tenantId) },
  )
  return statements
}

/**
 * What a transaction can leave on a connection and how it is removed: held cursors, temporary objects, the last values
 * of sequences, listeners, session advisory locks, a session role, session settings. Each is legal in a message of
 * several statements, and all of them together take about 40 microseconds.
 */
const CLEAN_UP = [
  'close all',
  'discard temp',
  'discard sequences',
  'unlisten *',
  'select pg_advisory_unlock_all()',
  'reset role',
] as const

/** After a transaction on a pool that the application shares with us: its own session settings stay. */
export const CLEAN_UP_SHARED: readonly string[] = [
  ...CLEAN_UP,
  'reset app.tenant_id',
  'reset app.user_id',
  'reset app.request_id',
  'reset app.seal',
  'reset row_security',
  'reset default_transaction_isolation',
  'reset default_transaction_read_only',
]

/** After a transaction on a pool of our own: every setting goes back to what the connection began with. */
export const CLEAN_UP_OWN: readonly string[] = [...CLEAN_UP, 'reset all', 'deallocate all']
