// P03: pg-pool takes a client back inside an open transaction, and the next request goes on in it: another tenant's
// context, and its commit commits the other one's writes. Closed: a client that is not idle is destroyed, not reused.
import { sql } from 'kysely'
import type pg from 'pg'
import { beforeAll, describe, expect, test } from 'vitest'
import { createRowhouse, type Rowhouse } from '../../src/index.ts'
import { poll } from '../setup/connection.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { startProxy, type TcpProxy } from '../setup/proxy.ts'
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

/** A pool of one connection that leads through a proxy, and rowhouse on it. */
interface Fragile {
  readonly pool: pg.Pool
  readonly rowhouse: Rowhouse
  readonly proxy: TcpProxy
}

async function withFragile<T>(work: (fragile: Fragile) => Promise<T>): Promise<T> {
  await using proxy = await startProxy(database.url('app'))
  const pool = database.pool('app', { connectionString: proxy.url, max: 1, connectionTimeoutMillis: 3000 })
  await using rowhouse = createRowhouse({ pool })
  try {
    return await work({ pool, rowhouse, proxy })
  } finally {
    proxy.resume()
    await pool.end()
  }
}

const insertAndSleep = async (db: Parameters<Parameters<Rowhouse['withTenant']>[1]>[0], seconds = 5): Promise<void> => {
  await sql.raw(INSERT).execute(db)
  await sql`select pg_sleep(${seconds})`.execute(db)
}

/** Ways in which the connection, the server or the caller gives up in the middle of a transaction. */
const CONNECTION_FAULTS: Record<string, (fragile: Fragile) => Promise<unknown>> = {
  statement_timeout: ({ rowhouse }) =>
    rowhouse.withTenant(GLOBEX, async (db) => {
      await sql`set local statement_timeout = 50`.execute(db)
      await insertAndSleep(db)
    }),
  idle_in_transaction_session_timeout: ({ rowhouse }) =>
    rowhouse.withTenant(GLOBEX, async (db) => {
      await sql`set local idle_in_transaction_session_timeout = 50`.execute(db)
      await sql.raw(INSERT).execute(db)
      await new Promise((resolve) => setTimeout(resolve, 200))
      await sql`select 1`.execute(db)
    }),
  'a signal during a statement': ({ rowhouse }) =>
    rowhouse.withTenant(GLOBEX, (db) => insertAndSleep(db), { signal: AbortSignal.timeout(100) }),
  'a signal between statements': ({ rowhouse }) => {
    const abort = new AbortController()
    return rowhouse.withTenant(
      GLOBEX,
      async (db) => {
        await sql.raw(INSERT).execute(db)
        abort.abort(new Error('the client left'))
        await sql`select 1`.execute(db)
      },
      { signal: abort.signal },
    )
  },
  'a connection that is cut': ({ rowhouse, proxy }) =>
    rowhouse.withTenant(GLOBEX, async (db) => {
      await sql.raw(INSERT).execute(db)
      proxy.cut()
      await sql`select 1`.execute(db)
    }),
  'a connection that goes silent': ({ rowhouse, proxy }) =>
    rowhouse.withTenant(
      GLOBEX,
      async (db) => {
        await sql.raw(INSERT).execute(db)
        proxy.halfOpen()
        await sql`select 1`.execute(db)
      },
      { signal: AbortSignal.timeout(300) },
    ),
  'a connection that is cut when it commits': ({ rowhouse, proxy }) =>
    rowhouse.withTenant(GLOBEX, async (db) => {
      await sql.raw(INSERT).execute(db)
      await sql`select 1 / 0`.execute(db).catch(() => {})
      proxy.cut()
    }),
  'a lock that is never free': async ({ rowhouse }) => {
    const holder = await database.connect('app')
    await holder.query(`begin; set local role rowhouse_app; set local app.tenant_id = '${GLOBEX}'; ${INSERT}`)
    try {
      await rowhouse.withTenant(GLOBEX, async (db) => {
        await sql`set local lock_timeout = 50`.execute(db)
        await sql.raw(INSERT).execute(db)
      })
    } finally {
      await holder.query('rollback')
      await holder.end()
    }
  },
}

describe('nor of one whose connection, server or caller gave up', needs('parallelBackends'), () => {
  /** Once the server has noticed: what the next request of the same pool meets, and what was made permanent. */
  const leftBy = (request: (fragile: Fragile) => Promise<unknown>, fails: boolean) =>
    withFragile(async (fragile) => {
      if (fails) await expect(request(fragile)).rejects.toThrow()
      else await request(fragile)
      fragile.proxy.resume()
      await poll(
        async () => {
          const { rowCount } = await clients.app.query(
            "select from pg_stat_activity where query like '%pg_sleep(5)%' and state = 'active' and pid <> pg_backend_pid()",
          )
          return rowCount === 0 ? true : undefined
        },
        { message: () => 'the statement did not end' },
      )
      const client = await fragile.pool.connect()
      const met = await tracesOn(client)
      await client.query('begin')
      await client.query('commit')
      client.release(true)
      const orphans = await rowsInTenant(clients.app, GLOBEX, 'select id from events where id = 100')
      if (orphans.length > 0) {
        await rowsInTenant(clients.app, GLOBEX, 'delete from events where id = 100', { commit: true })
      }
      return [...met, ...orphans]
    })

  const stock = async ({ pool }: Fragile) => {
    const client = await pool.connect()
    await client.query(`begin; set local role rowhouse_app; set local app.tenant_id = '${GLOBEX}'`)
    await client.query(INSERT)
    client.release()
  }

  test.each(Object.keys(CONNECTION_FAULTS))('%s', async (fault) => {
    let request = CONNECTION_FAULTS[fault]!
    await expectClosed({
      probe: () => leftBy(request, request !== stock),
      removeProtection: async () => {
        request = stock
      },
      restoreProtection: async () => {
        request = CONNECTION_FAULTS[fault]!
      },
    })
  })

  test('a pool that has no connection left', async () => {
    await withFragile(async ({ pool, rowhouse }) => {
      const held = await pool.connect()
      await expect(rowhouse.withTenant(GLOBEX, (db) => insertAndSleep(db, 0))).rejects.toThrow()
      expect(await tracesOn(held)).toEqual([])
      held.release()
      const seen = await rowhouse.query(GLOBEX, (db) => db.selectFrom('events').select('id').where('id', '=', 100))
      expect(seen).toEqual([])
    })
  })
})
