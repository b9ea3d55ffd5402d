// P04: the client's query_timeout gives up on a statement and then on the rollback behind it; the connection goes back
// to the pool and later holds another tenant's open transaction. Closed: a client with unanswered work is destroyed.
import { sql } from 'kysely'
import { test } from 'vitest'
import { poll } from '../setup/connection.ts'
import { useDatabase } from '../setup/database.ts'
import { GLOBEX, useAppTables } from './support/app-tables.ts'
import { tracesOn, useClients, useOneConnection } from './support/clients.ts'
import { expectClosed } from './support/expect-closed.ts'
import { rowsInTenant } from './support/in-tenant.ts'

const database = useDatabase({ needs: ['parallelBackends'] })
useAppTables(database)
const clients = useClients(database, 'app')
const one = useOneConnection(database, { pool: { query_timeout: 200, application_name: 'impatient' } })

const INSERT = "insert into events (id, kind, payload) values (100, 'abandoned', '{}')"

async function stockRequest(): Promise<void> {
  const client = await one.pool.connect()
  try {
    await client.query(`begin; set local role rowhouse_app; set local app.tenant_id = '${GLOBEX}'`)
    await client.query(INSERT)
    await client.query('select pg_sleep(0.5)')
  } catch {
    // Never sent: it waits behind the statement that runs, and its own time is over first.
    await client.query('rollback').catch(() => {})
  } finally {
    client.release()
  }
}

const ourRequest = (run: 'withTenant' | 'kysely') => async (): Promise<void> => {
  const work = async (db: Parameters<typeof sql.raw>[0] extends string ? any : never) => {
    await sql.raw(INSERT).execute(db)
    await sql`select pg_sleep(0.5)`.execute(db)
  }
  const request =
    run === 'withTenant'
      ? one.rowhouse.withTenant(GLOBEX, work)
      : one.rowhouse.kysely(GLOBEX).transaction().execute(work)
  await request.catch(() => {})
}

/** Once the server has finished what was given up on: what the next request meets, and what its commit leaves. */
async function nextRequest(): Promise<unknown[]> {
  await poll(
    async () => {
      const { rowCount } = await clients.app.query(
        "select from pg_stat_activity where application_name = 'impatient' and state = 'active'",
      )
      return rowCount === 0 ? true : undefined
    },
    { message: () => 'the statement did not end' },
  )
  const client = await one.pool.connect()
  try {
    const met = await tracesOn(client)
    await client.query('begin')
    await client.query('commit')
    const orphans = await rowsInTenant(clients.app, GLOBEX, 'select id from events where id = 100')
    await rowsInTenant(clients.app, GLOBEX, 'delete from events where id = 100', { commit: true })
    return [...met, ...orphans]
  } finally {
    client.release(true)
  }
}

test.each(['withTenant', 'kysely'] as const)(
  '%s: a statement that ran out of time leaves nothing behind',
  async (run) => {
    let request = ourRequest(run)
    await expectClosed({
      probe: async () => {
        await request()
        return nextRequest()
      },
      removeProtection: async () => {
        request = stockRequest
      },
      restoreProtection: async () => {
        request = ourRequest(run)
      },
    })
  },
)
