// P08: a handle kept after the callback still works on a raw client, which by then serves another tenant.
// Closed: every handle derived from a callback is dead once the callback has returned.
import { type Kysely, sql, type Transaction } from 'kysely'
import type pg from 'pg'
import { expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { ACME, GLOBEX, useAppTables } from './support/app-tables.ts'
import { useOneConnection } from './support/clients.ts'
import { expectClosed } from './support/expect-closed.ts'

const database = useDatabase()
useAppTables(database)
const one = useOneConnection(database)

/** acme keeps its handle; while globex works on the same connection, acme uses it. */
async function ours(): Promise<unknown[]> {
  const escaped = await one.rowhouse.withTenant(ACME, async (db) => ({ db }))
  return one.rowhouse.withTenant(GLOBEX, async (db) => {
    await db.selectFrom('invoices').selectAll().execute()
    const late = escaped.db.selectFrom('invoices').selectAll().execute()
    return late.catch((error) => {
      if (error.code !== 'context_ended') throw error
      return []
    })
  })
}

async function stock(): Promise<unknown[]> {
  let escaped: pg.PoolClient | undefined
  const request = async (tenantId: string, work: (client: pg.PoolClient) => Promise<unknown[]>) => {
    const client = await one.pool.connect()
    await client.query(`begin; set local role rowhouse_app; set local app.tenant_id = '${tenantId}'`)
    const result = await work(client)
    await client.query('commit')
    client.release()
    return result
  }
  await request(ACME, async (client) => {
    escaped = client
    return []
  })
  return request(GLOBEX, async () => (await escaped!.query('select * from invoices')).rows)
}

test('a handle that escaped its callback reads nothing of the next tenant', async () => {
  let probe = ours
  await expectClosed({
    probe: () => probe(),
    removeProtection: async () => {
      probe = stock
    },
    restoreProtection: async () => {
      probe = ours
    },
  })
})

/** Everything that can be kept of a callback. */
const ESCAPES: Record<string, (db: Kysely<any>) => Promise<() => Promise<unknown>>> = {
  'a query that was built inside': async (db) => {
    const query = db.selectFrom('invoices').selectAll()
    return () => query.execute()
  },
  'a raw query': async (db) => () => sql`select 1`.execute(db),
  'a handle with plugins removed': async (db) => {
    const plain = db.withoutPlugins()
    return () => plain.selectFrom('invoices').selectAll().execute()
  },
  'a handle with a schema': async (db) => {
    const other = db.withSchema('public')
    return () => other.selectFrom('invoices').selectAll().execute()
  },
  'a new transaction': async (db) => () =>
    db.transaction().execute((trx) => trx.selectFrom('invoices').selectAll().execute()),
  'the handle of a nested transaction': async (db) => {
    let nested: Transaction<any> | undefined
    await db.transaction().execute(async (trx) => {
      nested = trx
    })
    return () => nested!.selectFrom('invoices').selectAll().execute()
  },
  'a connection': async (db) => () => db.connection().execute((c) => c.selectFrom('invoices').selectAll().execute()),
  'a stream': async (db) => {
    const stream = db.selectFrom('invoices').selectAll().stream()
    return () => stream.next()
  },
  'a stream that was begun': async (db) => {
    const stream = db.selectFrom('invoices').selectAll().stream(1)
    await stream.next()
    return async () => {
      await stream.next()
      await stream.next()
    }
  },
  'a controlled transaction': async (db) => () => db.startTransaction().execute(),
  'an introspector': async (db) => () => db.introspection.getTables(),
  'a compiled query': async (db) => {
    const compiled = db.selectFrom('invoices').selectAll().compile()
    return () => db.executeQuery(compiled)
  },
}

test.each(Object.keys(ESCAPES))('dead after the callback: %s', async (name) => {
  const useLate = await one.rowhouse.withTenant(ACME, (db) => ESCAPES[name]!(db))
  await expect(useLate()).rejects.toThrow()
  expect(await one.rowhouse.withTenant(ACME, async () => 'still works')).toBe('still works')
})

test('the modules of a tenant context are dead as well', async () => {
  const tenant = await one.rowhouse.withTenant(ACME, async (_db, context) => context)
  await expect(tenant.db.selectFrom('invoices').selectAll().execute()).rejects.toMatchObject({ code: 'context_ended' })
})
