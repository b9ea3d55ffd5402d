// P03: pg-pool takes a client back inside an open transaction, and the next request goes on in it: another tenant's
// context, and its commit commits the other one's writes. Closed: a client that is not idle is destroyed, not reused.
import { sql } from 'kysely'
import { beforeAll, describe, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { GLOBEX, useAppTables } from './support/app-tables.ts'
import { tracesOn, useClients, useOneConnection } from './support/clients.ts'
import { expectClosed } from './support/expect-closed.ts'
import { rowsInTenant } from './support/in-tenant.ts'

const database = useDatabase()
useAppTables(database)
const clients = useClients(database, 'app')
const one = useOneConnection(database)

const INSERT = "insert into events (id, kind, payload) values (100, 'abandoned', '{}')"

/** The next request works and commits: what it met, and what of the abandoned request its commit made permanent. */
async function nextRequest(): Promise<unknown[]> {
  const client = await one.pool.connect()
  try {
    const met = await tracesOn(client)
    await client.query('begin')
    await client.query('commit')
    const orphans = await rowsInTenant(client, GLOBEX, 'select id from events where id = 100')
    if (orphans.length > 0) {
      await rowsInTenant(client, GLOBEX, 'delete from events where id = 100', { commit: true })
    }
    return [...met, ...orphans]
  } finally {
    client.release(true)
  }
}

/** What the usual helpers do when a request fails between begin and commit and nobody rolls back. */
async function stockRequest(): Promise<void> {
  const client = await one.pool.connect()
  await client.query(`begin; set local role rowhouse_app; set local app.tenant_id = '${GLOBEX}'`)
  await client.query(INSERT)
  client.release()
}

/** Ways in which a callback leaves its transaction unfinished. */
const FAULTS: Record<string, () => Promise<unknown>> = {
  'the callback throws': () =>
    one.rowhouse.withTenant(GLOBEX, async (db) => {
      await sql.raw(INSERT).execute(db)
      throw new Error('the request failed')
    }),
  'the callback does not await its insert': () =>
    one.rowhouse.withTenant(GLOBEX, async (db) => {
      void sql
        .raw(INSERT)
        .execute(db)
        .catch(() => {})
    }),
  'a statement fails and the callback goes on': () =>
    one.rowhouse.withTenant(GLOBEX, async (db) => {
      await sql.raw(INSERT).execute(db)
      await sql`select 1 / 0`.execute(db).catch(() => {})
    }),
  'the commit fails': () =>
    one.rowhouse.withTenant(GLOBEX, async (db) => {
      await sql.raw(INSERT).execute(db)
      await sql`insert into deferred_rows values (1), (1)`.execute(db)
    }),
  'a savepoint is left open': () =>
    one.rowhouse.withTenant(GLOBEX, async (db) => {
      await sql`savepoint left_open`.execute(db)
      await sql.raw(INSERT).execute(db)
      throw new Error('the request failed')
    }),
  'the callback of a nested call throws': () =>
    one.rowhouse.withTenant(GLOBEX, () =>
      one.rowhouse.withTenant(GLOBEX, async (db) => {
        await sql.raw(INSERT).execute(db)
        throw new Error('the request failed')
      }),
    ),
  'a transaction of the complete Kysely is abandoned': async () => {
    const db = one.rowhouse.kysely(GLOBEX)
    await db.transaction().execute(async (trx) => {
      await sql.raw(INSERT).execute(trx)
      throw new Error('the request failed')
    })
  },
}

beforeAll(async () => {
  const owner = await database.connect('owner')
  await owner.query('create table deferred_rows (id int unique deferrable initially deferred)')
  await owner.query('grant insert on deferred_rows to rowhouse_app')
  await owner.end()
})

describe('the next request meets nothing of one that did not finish', () => {
  test.each(Object.keys(FAULTS))('%s', async (fault) => {
    let request = FAULTS[fault]!
    await expectClosed({
      probe: async () => {
        await request().then(
          () => expect(request).toBe(stockRequest),
          () => {},
        )
        return nextRequest()
      },
      removeProtection: async () => {
        request = stockRequest
      },
      restoreProtection: async () => {
        request = FAULTS[fault]!
      },
    })
  })

  test('the backend dies in the middle', needs('parallelBackends'), async () => {
    const request = one.rowhouse.withTenant(GLOBEX, async (db) => {
      await sql.raw(INSERT).execute(db)
      const { rows } = await sql<{ pid: number }>`select pg_backend_pid() as pid`.execute(db)
      await clients.app.query('select pg_terminate_backend($1)', [rows[0]!.pid])
      await sql`select 1`.execute(db)
    })
    await expect(request).rejects.toThrow()
    expect(await nextRequest()).toEqual([])
  })
})
