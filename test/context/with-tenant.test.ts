import { sql } from 'kysely'
import { beforeAll, describe, expect, test } from 'vitest'
import { getCurrentTenant, TenantContext } from '../../src/index.ts'
import { useDatabase } from '../setup/database.ts'
import { startProxy } from '../setup/proxy.ts'
import { createFixture, rowhouseFor } from './fixture.ts'

const database = useDatabase()
const open = rowhouseFor(database)
beforeAll(() => createFixture(database))

const settings = sql<{ role: string; tenant: string; user: string; request: string }>`
  select current_user as role, current_setting('app.tenant_id') as tenant, current_setting('app.user_id') as "user",
         current_setting('app.request_id') as request`

describe('context', () => {
  test('sees the rows of the tenant only', async () => {
    const rows = await open().withTenant('acme', (db) => db.selectFrom('invoices').selectAll().execute())
    expect(rows).toHaveLength(10)
    expect(new Set(rows.map((row) => row.tenant_id))).toEqual(new Set(['acme']))
  })

  test('runs as the role, the tenant, the user and the request', async () => {
    const { withTenant } = open()
    const { rows } = await withTenant('acme', (db) => settings.execute(db), { userId: "o'neil\\", requestId: 'r-1' })
    expect(rows).toEqual([{ role: 'rowhouse_app', tenant: 'acme', user: "o'neil\\", request: 'r-1' }])
  })

  test('settings that are not given are empty, whatever the connection had', async () => {
    const pool = database.pool('app', { max: 1 })
    await pool.query("set app.user_id = 'older'")
    const { rows } = await open({ pool }).withTenant('acme', (db) => settings.execute(db))
    expect(rows[0]).toMatchObject({ user: '', request: '' })
  })

  test('commits when the callback returns, rolls back when it throws', async () => {
    const { withTenant, query } = open()
    await withTenant('acme', (db) => db.insertInto('invoices').values({ id: 100, total: 1, note: null }).execute())
    const failing = withTenant('acme', async (db) => {
      await db.deleteFrom('lines').execute()
      throw new Error('mine')
    })
    await expect(failing).rejects.toThrow('mine')
    expect(await query('acme', (db) => db.selectFrom('invoices').select('id').where('id', '=', 100))).toEqual([
      { id: 100 },
    ])
    await withTenant('acme', (db) => db.deleteFrom('invoices').where('id', '=', 100).execute())
  })

  test('read-only and isolation level', async () => {
    const { withTenant } = open()
    const level = await withTenant('acme', (db) => sql<any>`show transaction_isolation`.execute(db), {
      isolationLevel: 'serializable',
      readOnly: true,
    })
    expect(level.rows).toEqual([{ transaction_isolation: 'serializable' }])
    const writing = withTenant('acme', (db) => db.deleteFrom('invoices').execute(), { readOnly: true })
    await expect(writing).rejects.toMatchObject({ code: '25006' })
  })

  test('the tenant context joins the transaction', async () => {
    await open().withTenant('acme', async (db, tenant) => {
      expect(tenant).toBeInstanceOf(TenantContext)
      expect(tenant.tenantId).toBe('acme')
      await db.updateTable('invoices').set({ note: 'here' }).where('id', '=', 1).execute()
      const note = await tenant.runContext((inner) =>
        inner.selectFrom('invoices').select('note').where('id', '=', 1).executeTakeFirst(),
      )
      expect(note).toEqual({ note: 'here' })
    })
  })
})

describe('round trips', () => {
  test.each([false, true])('query 1, withTenant with one statement 2 (pipeline: %s)', async (pipeline) => {
    await using proxy = await startProxy(database.url('app'))
    const { withTenant, query, kysely } = open({ connectionString: proxy.url, pipeline, poolOptions: { max: 1 } })
    await query('acme', (db) => db.selectFrom('invoices').selectAll())
    const count = async (run: () => Promise<unknown>) => {
      proxy.resetCounters()
      await run()
      return proxy.counters.flights
    }
    expect(await count(() => query('acme', (db) => db.selectFrom('invoices').selectAll()))).toBe(1)
    expect(await count(() => kysely('acme').selectFrom('invoices').selectAll().execute())).toBe(1)
    const selectOnce = () => withTenant('acme', (db) => db.selectFrom('invoices').selectAll().execute())
    expect(await count(selectOnce)).toBe(2)
    expect(await count(() => withTenant('acme', async () => 'nothing'))).toBe(0)
  })

  test('statements that are issued together share a round trip on a pipelined pool', async () => {
    await using proxy = await startProxy(database.url('app'))
    const { withTenant } = open({ connectionString: proxy.url, pipeline: true, poolOptions: { max: 1 } })
    const run = () => withTenant('acme', (db) => Promise.all([1, 2, 3].map((id) => sql`select ${id}::int`.execute(db))))
    await run()
    proxy.delay(2)
    proxy.resetCounters()
    await run()
    expect(proxy.counters.flights).toBe(2)
  })

  test('no connection is in use before the first statement', async () => {
    const pool = database.pool('app', { max: 1 })
    const { withTenant } = open({ pool })
    await withTenant('acme', (db) => settings.execute(db))
    await withTenant('acme', async (db) => {
      expect(pool.idleCount).toBe(1)
      await settings.execute(db)
      expect(pool.idleCount).toBe(0)
    })
    expect(pool.idleCount).toBe(1)
  })
})

describe('tenants', () => {
  test('unknown and suspended tenants are refused, in the same round trip', async () => {
    const operator = await database.connect('operator')
    await operator.query(
      "set role rowhouse_admin; select rowhouse.provision_tenant('late'); select rowhouse.suspend_tenant('late')",
    )
    const { withTenant, query } = open()
    const select = (db: any) => db.selectFrom('invoices').selectAll().execute()
    await expect(withTenant('nobody', select)).rejects.toMatchObject({ code: 'tenant_not_found', httpStatus: 404 })
    await expect(withTenant('late', select)).rejects.toMatchObject({ code: 'tenant_suspended', httpStatus: 403 })
    await expect(query('nobody', (db) => db.selectFrom('invoices').selectAll())).rejects.toMatchObject({
      code: 'tenant_not_found',
    })
  })

  test('a refused tenant stays refused for every statement, even when the error is swallowed', async () => {
    const { withTenant } = open()
    const swallowing = withTenant('nobody', async (db) => {
      await settings.execute(db).catch(() => {})
      await expect(settings.execute(db)).rejects.toMatchObject({ code: 'tenant_not_found' })
    })
    await expect(swallowing).rejects.toMatchObject({ code: 'tenant_not_found' })
  })

  test.each(['', 'a b', "a'; drop table x; --", 'x'.repeat(65), 'ä', 'a\0'])('refuses the id %j', async (id) => {
    await expect(open().withTenant(id, async () => 1)).rejects.toMatchObject({
      code: 'invalid_tenant_id',
      httpStatus: 400,
    })
  })

  test.each([undefined, null, 7, {}])('refuses the id %j, which is no string', async (id) => {
    await expect(open().withTenant(id as any, async () => 1)).rejects.toMatchObject({ code: 'invalid_tenant_id' })
  })

  test('refuses options that are too long or hold a zero byte', async () => {
    const { withTenant } = open()
    await expect(withTenant('acme', async () => 1, { userId: 'x'.repeat(201) })).rejects.toThrow(/userId/)
    await expect(withTenant('acme', async () => 1, { requestId: 'a\0b' })).rejects.toThrow(
      /requestId: contains a zero byte/,
    )
    await expect(withTenant('acme', async () => 1, { isolationLevel: 'chaos' as any })).rejects.toThrow(
      /isolationLevel/,
    )
  })
})

describe('nesting', () => {
  test('the same tenant is a savepoint of the same transaction', async () => {
    const { withTenant } = open()
    await withTenant('acme', async (outer) => {
      const before = await sql<any>`select pg_backend_pid() as pid, txid_current() as id`.execute(outer)
      const inside = await withTenant('acme', (inner) =>
        sql<any>`select pg_backend_pid() as pid, txid_current() as id`.execute(inner),
      )
      expect(inside.rows).toEqual(before.rows)
      const failing = withTenant('acme', async (inner) => {
        await inner.deleteFrom('lines').execute()
        throw new Error('inner')
      })
      await expect(failing).rejects.toThrow('inner')
      const { count } = await outer
        .selectFrom('lines')
        .select((eb) => eb.fn.countAll<string>().as('count'))
        .executeTakeFirstOrThrow()
      expect(count).toBe('20')
    })
  })

  test('another tenant is refused, by every way in', async () => {
    const { withTenant, query, tenant, kysely } = open()
    const globex = kysely('globex')
    await withTenant('acme', async () => {
      const mismatch = { code: 'tenant_mismatch' }
      await expect(withTenant('globex', async () => 1)).rejects.toMatchObject(mismatch)
      await expect(query('globex', (db) => db.selectFrom('invoices').selectAll())).rejects.toMatchObject(mismatch)
      await expect(tenant('globex').runContext(async () => 1)).rejects.toMatchObject(mismatch)
      await expect(globex.selectFrom('invoices').selectAll().execute()).rejects.toMatchObject(mismatch)
    })
    await expect(globex.selectFrom('invoices').selectAll().execute()).resolves.toHaveLength(10)
  })

  test('query, tenant() and kysely() of the same tenant join the transaction', async () => {
    const { withTenant, query, tenant, kysely } = open({ poolOptions: { max: 1, connectionTimeoutMillis: 500 } })
    const acme = kysely('acme')
    await withTenant('acme', async (db) => {
      const xid = async (run: Promise<{ rows: unknown[] }>) => (await run).rows[0]
      const id = sql<any>`select txid_current() as id`
      const expected = await xid(id.execute(db))
      expect(await xid(id.execute(acme))).toEqual(expected)
      expect(await query('acme', () => id)).toEqual([expected])
      expect(await xid(tenant('acme').runContext((inner) => id.execute(inner)))).toEqual(expected)
      expect(await acme.transaction().execute((trx) => xid(id.execute(trx)))).toEqual(expected)
    })
  })

  test('options that contradict the surrounding transaction are refused', async () => {
    const { withTenant, query } = open()
    await withTenant(
      'acme',
      async (db) => {
        await expect(withTenant('acme', async () => 1, { userId: 'u2' })).rejects.toThrow(/option userId differs/)
        await expect(withTenant('acme', async () => 1, { readOnly: true })).rejects.toThrow(/option readOnly differs/)
        await expect(query('acme', () => settings, { isolationLevel: 'serializable' })).rejects.toThrow(
          /isolationLevel/,
        )
        await expect(
          db
            .transaction()
            .setIsolationLevel('serializable')
            .execute(async () => 1),
        ).rejects.toThrow(/isolationLevel/)
        await expect(withTenant('acme', async () => 1, { retry: { attempts: 3 } })).rejects.toThrow(/outermost/)
        await expect(withTenant('acme', async () => 'fine', { userId: 'u1' })).resolves.toBe('fine')
      },
      { userId: 'u1' },
    )
  })

  test('nested transactions that run at the same time do not undo each other', async () => {
    const { withTenant } = open()
    await withTenant('acme', async (db) => {
      const failing = db.transaction().execute(async (trx) => {
        await trx.updateTable('invoices').set({ note: 'lost' }).where('id', '=', 1).execute()
        await new Promise((resolve) => setTimeout(resolve, 20))
        throw new Error('on purpose')
      })
      const writing = [
        db.updateTable('invoices').set({ note: 'kept' }).where('id', '=', 2).execute(),
        db
          .transaction()
          .execute((trx) => trx.updateTable('invoices').set({ note: 'kept' }).where('id', '=', 3).execute()),
        withTenant('acme', (inner) =>
          inner.updateTable('invoices').set({ note: 'kept' }).where('id', '=', 4).execute(),
        ),
      ]
      await expect(failing).rejects.toThrow('on purpose')
      await Promise.all(writing)
      const notes = await db.selectFrom('invoices').select('note').where('id', '<', 5).orderBy('id').execute()
      expect(notes.map((row) => row.note)).toEqual([expect.not.stringContaining('lost'), 'kept', 'kept', 'kept'])
    })
  })

  test('a nested transaction may use the outer handle', async () => {
    const { withTenant } = open()
    await withTenant('acme', async (db) => {
      await db.transaction().execute(async (trx) => {
        await trx.updateTable('invoices').set({ note: 'trx' }).where('id', '=', 5).execute()
        await db.updateTable('invoices').set({ note: 'outer' }).where('id', '=', 6).execute()
        await db.transaction().execute((inner) => inner.selectFrom('invoices').selectAll().execute())
      })
    })
  })

  test('transactions committed by hand end in the reverse order', async () => {
    const { withTenant } = open()
    await withTenant('acme', async (db) => {
      const first = await db.startTransaction().execute()
      await first.updateTable('invoices').set({ note: 'first' }).where('id', '=', 7).execute()
      const second = await db.startTransaction().execute()
      await second.updateTable('invoices').set({ note: 'second' }).where('id', '=', 8).execute()
      await expect(first.commit().execute()).rejects.toThrow(/begun last/)
      await second.rollback().execute()
      await first.commit().execute()
      const notes = await db.selectFrom('invoices').select('note').where('id', 'in', [7, 8]).orderBy('id').execute()
      expect(notes).toEqual([{ note: 'first' }, { note: 'acme 8' }])
    })
  })
})

describe('ambient tenant', () => {
  test('is known inside the callback, and in what it calls', async () => {
    const { withTenant } = open()
    expect(getCurrentTenant()).toBeUndefined()
    await withTenant('acme', async (db) => {
      expect(getCurrentTenant()).toBe('acme')
      await db.transaction().execute(async () => expect(getCurrentTenant()).toBe('acme'))
      await new Promise((resolve) => setTimeout(resolve, 1))
      expect(getCurrentTenant()).toBe('acme')
    })
    expect(getCurrentTenant()).toBeUndefined()
  })

  test('work that outlives the callback has none, and may enter another tenant', async () => {
    const { withTenant, query } = open()
    let later: Promise<unknown> = Promise.resolve()
    await withTenant('acme', async () => {
      later = new Promise((resolve) => setTimeout(resolve, 20)).then(() =>
        query('globex', (db) => db.selectFrom('invoices').select('tenant_id').limit(1)),
      )
    })
    expect(await later).toEqual([{ tenant_id: 'globex' }])
  })

  test('callbacks that run at the same time keep apart', async () => {
    const { withTenant } = open({ poolOptions: { max: 4 } })
    const seen = await Promise.all(
      Array.from({ length: 40 }, (_, index) => {
        const tenant = index % 2 === 0 ? 'acme' : 'globex'
        return withTenant(tenant, async (db) => {
          const rows = await db.selectFrom('invoices').select('tenant_id').distinct().execute()
          return getCurrentTenant() === tenant && rows.length === 1 && rows[0]!.tenant_id === tenant
        })
      }),
    )
    expect(seen.every(Boolean)).toBe(true)
  })
})

describe('retry', () => {
  test('runs the callback again after a serialization failure, the given number of times', async () => {
    const { withTenant } = open()
    let attempts = 0
    const work = async (db: any) => {
      if (++attempts < 3) await sql`do $$ begin raise exception 'again' using errcode = '40001'; end $$`.execute(db)
      return attempts
    }
    await expect(withTenant('acme', work)).rejects.toMatchObject({ code: '40001' })
    attempts = 0
    await expect(withTenant('acme', work, { retry: { attempts: 3, initialDelayMs: 1 } })).resolves.toBe(3)
    attempts = 0
    await expect(withTenant('acme', work, { retry: { attempts: 2, initialDelayMs: 1 } })).rejects.toMatchObject({
      code: '40001',
    })
  })

  test('a real serialization failure', async () => {
    const { withTenant } = open()
    const increment = async () =>
      withTenant(
        'acme',
        async (db) => {
          const { total } = await db
            .selectFrom('invoices')
            .select('total')
            .where('id', '=', 9)
            .executeTakeFirstOrThrow()
          await new Promise((resolve) => setTimeout(resolve, 5))
          await db
            .updateTable('invoices')
            .set({ total: total + 1 })
            .where('id', '=', 9)
            .execute()
        },
        { isolationLevel: 'repeatable read', retry: { attempts: 20, initialDelayMs: 5 } },
      )
    await Promise.all(Array.from({ length: 5 }, increment))
    const { total } = await open().withTenant('acme', (db) =>
      db.selectFrom('invoices').select('total').where('id', '=', 9).executeTakeFirstOrThrow(),
    )
    expect(total).toBe(95)
  })
})
