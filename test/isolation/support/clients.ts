import type pg from 'pg'
import { afterAll, beforeAll } from 'vitest'
import { createRowhouse, type Rowhouse, type RowhouseOptions } from '../../../src/index.ts'
import type { TestDatabase } from '../../setup/database.ts'
import type { Role } from '../../setup/engine.ts'

/** One connection for each of these logins, open from `beforeAll` on. */
export function useClients<const R extends Role>(database: TestDatabase, ...roles: readonly R[]): Record<R, pg.Client> {
  const clients = {} as Record<R, pg.Client>
  beforeAll(async () => {
    for (const role of roles) clients[role] = await database.connect(role)
  })
  return clients
}

/** rowhouse on a pool of one connection, and that pool: what one request leaves behind, the next one meets. */
export interface OneConnection {
  pool: pg.Pool
  rowhouse: Rowhouse
}

export function useOneConnection(
  database: TestDatabase,
  options: {
    readonly pool?: pg.PoolConfig
    readonly rowhouse?: Omit<RowhouseOptions, 'pool' | 'connectionString'>
  } = {},
): OneConnection {
  const one = {} as OneConnection
  beforeAll(() => {
    one.pool = database.pool('app', { max: 1, ...options.pool })
    one.rowhouse = createRowhouse({ pool: one.pool, ...options.rowhouse })
  })
  afterAll(() => one.rowhouse?.close())
  return one
}

/** What a connection carries that the next request must not meet; empty when it is as good as new. */
export async function tracesOn(client: pg.ClientBase): Promise<string[]> {
  const status = client.getTransactionStatus()
  const traces = status === 'I' ? [] : [`transaction status ${status}`]
  const { rows } = await client.query(`
    select 'setting ' || s.name || ' = ' || s.value as trace
      from (values ('app.tenant_id', current_setting('app.tenant_id', true)),
        ('app.user_id', current_setting('app.user_id', true)),
        ('app.request_id', current_setting('app.request_id', true))) s (name, value)
      where s.value <> ''
    union all select 'role ' || current_user where current_user <> session_user
    union all select 'cursor ' || name from pg_cursors where name <> ''
    union all select 'temporary table ' || relname from pg_class where relnamespace = pg_my_temp_schema()
    union all select 'advisory lock' from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()
    union all select 'channel ' || c from pg_listening_channels() c`)
  traces.push(...rows.map((row) => row.trace))
  return traces
}
