// P41: temporary tables and held cursors outlive the transaction, and the next tenant on the connection reads them.
// Closed: the message that ends a transaction also removes what it left on the connection.
import { Kysely, PostgresDialect, sql } from 'kysely'
import { expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { ACME, GLOBEX, useAppTables } from './support/app-tables.ts'
import { tracesOn, useOneConnection } from './support/clients.ts'
import { expectClosed } from './support/expect-closed.ts'

const database = useDatabase()
useAppTables(database)
const one = useOneConnection(database)

type Run = (tenantId: string, statement: string) => Promise<readonly unknown[]>

const PATHS: Record<string, Run> = {
  withTenant: (tenantId, statement) =>
    one.rowhouse.withTenant(tenantId, async (db) => (await sql.raw(statement).execute(db)).rows),
  query: (tenantId, statement) => one.rowhouse.query(tenantId, () => sql.raw(statement) as any) as Promise<unknown[]>,
  kysely: async (tenantId, statement) => (await sql.raw(statement).execute(one.rowhouse.kysely(tenantId))).rows,
  'a transaction of kysely': (tenantId, statement) =>
    one.rowhouse
      .kysely(tenantId)
      .transaction()
      .execute(async (trx) => (await sql.raw(statement).execute(trx)).rows),
  'a connection of kysely': (tenantId, statement) =>
    one.rowhouse
      .kysely(tenantId)
      .connection()
      .execute(async (db) => (await sql.raw(statement).execute(db)).rows),
}

const stock: Run = (tenantId, statement) =>
  new Kysely<any>({ dialect: new PostgresDialect({ pool: one.pool }) }).transaction().execute(async (trx) => {
    await sql`set local role rowhouse_app`.execute(trx)
    await sql`select set_config('app.tenant_id', ${tenantId}, true)`.execute(trx)
    return (await sql.raw(statement).execute(trx)).rows
  })

/** What one tenant leaves, and how the next one reads it. */
const LEFT: Record<string, { leave: string; read: string }> = {
  'a temporary table': { leave: 'create temporary table mine as select * from invoices', read: 'select * from mine' },
  'a temporary view': {
    leave: "create temporary view mine as select note from invoices union all select 'left'",
    read: "select * from mine where note = 'left'",
  },
  'a temporary function': {
    leave: "create function pg_temp.mine() returns text language sql as $$ select 'left'::text $$",
    read: 'select pg_temp.mine()',
  },
  'a held cursor': { leave: 'declare mine cursor with hold for select * from invoices', read: 'fetch all from mine' },
  'a session lock': {
    leave: 'select pg_advisory_lock(4711)',
    read: "select 'lock' from pg_locks where locktype = 'advisory' and pid = pg_backend_pid() and objid = 4711",
  },
  'a channel': { leave: 'listen mine', read: 'select pg_listening_channels()' },
}

test.each(Object.keys(PATHS).flatMap((path) => Object.keys(LEFT).map((left) => [path, left] as const)))(
  '%s leaves no %s',
  async (path, left) => {
    const { leave, read } = LEFT[left]!
    let run = PATHS[path]!
    await expectClosed({
      probe: async () => {
        await run(GLOBEX, leave)
        // 42P01, 42883, 34000: there is no such table, function or cursor.
        return run(ACME, read).catch((error) => {
          if (['42P01', '42883', '3F000', '34000'].includes(error.code)) return []
          throw error
        })
      },
      removeProtection: async () => {
        run = stock
      },
      restoreProtection: async () => {
        run = PATHS[path]!
        await one.pool.query('discard all')
      },
    })
  },
)

test.each(Object.keys(LEFT))('after a transaction that failed: no %s', async (left) => {
  const request = one.rowhouse.withTenant(GLOBEX, async (db) => {
    await sql.raw(LEFT[left]!.leave).execute(db)
    throw new Error('the request failed')
  })
  await expect(request).rejects.toThrow('the request failed')
  const client = await one.pool.connect()
  try {
    expect(await tracesOn(client)).toEqual([])
  } finally {
    client.release()
  }
})
