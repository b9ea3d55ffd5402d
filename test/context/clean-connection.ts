import type pg from 'pg'
import { expect } from 'vitest'

/** What one finds on a connection. */
export interface CheckedOut {
  readonly tenant: string | null
  readonly user: string | null
  readonly isLogin: boolean
  /** Whether a tenant that is suspended could enter. */
  readonly settles: string | null
  readonly locks: number
  readonly temporary: number
  readonly cursors: number
  readonly channels: number
  readonly readOnly: string
  readonly rowSecurity: string
}

export const CLEAN: CheckedOut = {
  tenant: null,
  user: null,
  isLogin: true,
  settles: null,
  locks: 0,
  temporary: 0,
  cursors: 0,
  channels: 0,
  readOnly: 'off',
  rowSecurity: 'on',
}

export const INSPECT = `
  select nullif(current_setting('app.tenant_id', true), '') as tenant,
         nullif(current_setting('app.user_id', true), '') as "user",
         current_user = session_user as "isLogin",
         nullif(current_setting('rowhouse.settles', true), '') as settles,
         (select count(*)::int from pg_locks where pid = pg_backend_pid() and locktype = 'advisory') as locks,
         (select count(*)::int from pg_class where relnamespace = pg_my_temp_schema()) as "temporary",
         (select count(*)::int from pg_cursors where name <> '') as cursors,
         (select count(*)::int from pg_listening_channels()) as channels,
         current_setting('default_transaction_read_only') as "readOnly",
         current_setting('row_security') as "rowSecurity"`

/** What the next user of a pool of one would find. */
export async function inspectNextCheckout(pool: pg.Pool) {
  const client = await pool.connect()
  try {
    const status = client.getTransactionStatus()
    const { rows } = await client.query<CheckedOut>(INSPECT)
    return { status, ...rows[0]! }
  } finally {
    client.release()
  }
}

/** Fails when the next user of the pool would find anything of the one before. */
export async function expectCleanCheckout(pool: pg.Pool): Promise<void> {
  expect(await inspectNextCheckout(pool)).toEqual({ status: 'I', ...CLEAN })
}
