/**
 * What can go wrong with a connection in use. After each fault the next user of the pool finds nothing of the one
 * before, nothing half-done was written, and the process is still there.
 */
import { sql } from 'kysely'
import pg from 'pg'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { Rowhouse } from '../../src/index.ts'
import { poll } from '../setup/connection.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { startProxy } from '../setup/proxy.ts'
import { expectCleanCheckout, inspectNextCheckout } from './clean-connection.ts'
import { type AppTables, createFixture, rowhouseFor, SMALL_POOL } from './fixture.ts'

const database = useDatabase()
const open = rowhouseFor(database)
beforeAll(() => createFixture(database))

const warnings: Error[] = []
process.on('warning', (warning) => warnings.push(warning))
afterEach(() => expect(warnings).toEqual([]))

/** A write that must not be there afterwards. */
const ORPHAN = { id: 999, total: 1, note: 'orphan' }

async function expectNoOrphan(): Promise<void> {
  const app = new pg.Client(database.url('app'))
  await app.connect()
  await app.query("begin; set local role rowhouse_app; set local app.tenant_id = 'acme'")
  const { rows } = await app.query("select * from invoices where note = 'orphan'")
  await app.end()
  expect(rows).toEqual([])
}

describe.each([{ pipeline: false }, { pipeline: true }])('with pipeline $pipeline', ({ pipeline }) => {
  function openOne(config: pg.PoolConfig = {}): { pool: pg.Pool; rowhouse: Rowhouse<AppTables> } {
    const pool = database.pool('app', { ...SMALL_POOL, max: 1, pipeline, ...config } as pg.PoolConfig)
    return { pool, rowhouse: open({ pool, pipeline }) }
  }

  /** Runs work that must fail, and looks at what it left. */
  async function expectFault(
    config: pg.PoolConfig,
    work: (rowhouse: Rowhouse<AppTables>, pool: pg.Pool) => Promise<unknown>,
    error: object | RegExp,
  ): Promise<void> {
    const { pool, rowhouse } = openOne(config)
    const failure = await work(rowhouse, pool).then(
      () => 'no error',
      (reason: Error) => reason,
    )
    if (error instanceof RegExp) expect(String(failure)).toMatch(error)
    else expect(failure).toMatchObject(error)
    await expectCleanCheckout(pool)
    await expectNoOrphan()
    expect(await rowhouse.query('globex', (db) => db.selectFrom('invoices').select('tenant_id').distinct())).toEqual([
      { tenant_id: 'globex' },
    ])
  }

  test('the callback throws', () =>
    expectFault(
      {},
      ({ withTenant }) =>
        withTenant('acme', async (db) => {
          await db.insertInto('invoices').values(ORPHAN).execute()
          throw new Error('mine')
        }),
      /mine/,
    ))

  test('a statement fails and the callback swallows it', () =>
    expectFault(
      {},
      ({ withTenant }) =>
        withTenant('acme', async (db) => {
          await db.insertInto('invoices').values(ORPHAN).execute()
          await sql`select 1 / 0`.execute(db).catch(() => {})
        }),
      { code: 'aborted_transaction' },
    ))

  test('commit fails by a deferred constraint', () =>
    expectFault(
      {},
      ({ withTenant }) =>
        withTenant('acme', async (db) => {
          await db.insertInto('invoices').values(ORPHAN).execute()
          await sql`set constraints all deferred`.execute(db)
          await db.insertInto('lines').values({ invoice_id: 12345, line: 1, amount: 1 }).execute()
        }),
      { code: '23503' },
    ))

  test('commit of a single statement fails by a deferred constraint', async () => {
    const owner = await database.connect('owner')
    await owner.query('alter table lines alter constraint lines_tenant_id_invoice_id_fkey initially deferred')
    await expectFault(
      {},
      ({ query }) => query('acme', (db) => db.insertInto('lines').values({ invoice_id: 12345, line: 1, amount: 1 })),
      { code: '23503' },
    )
    await owner.query('alter table lines alter constraint lines_tenant_id_invoice_id_fkey initially immediate')
  })

  test('query_timeout inside a transaction', needs('parallelBackends'), () =>
    expectFault(
      { query_timeout: 150 },
      ({ withTenant }) =>
        withTenant('acme', async (db) => {
          await db.insertInto('invoices').values(ORPHAN).execute()
          await sql`select pg_sleep(2)`.execute(db)
        }),
      /Query read timeout/,
    ),
  )

  test('query_timeout of a single statement: the server is told to stop', needs('parallelBackends'), () =>
    expectFault(
      { query_timeout: 150 },
      ({ query }) =>
        query('acme', (db) =>
          db.insertInto('invoices').columns(['id', 'note']).expression(sql`select 999, 'orphan' from pg_sleep(0.6)`),
        ),
      /Query read timeout/,
    ).then(() => new Promise((resolve) => setTimeout(resolve, 600)).then(expectNoOrphan)),
  )

  test('statement_timeout', () =>
    expectFault(
      { statement_timeout: 100 },
      ({ withTenant }) =>
        withTenant('acme', async (db) => {
          await db.insertInto('invoices').values(ORPHAN).execute()
          await sql`select pg_sleep(2)`.execute(db)
        }),
      { code: '57014' },
    ))

  test('idle_in_transaction_session_timeout', needs('parallelBackends'), () =>
    expectFault(
      { idle_in_transaction_session_timeout: 50 },
      ({ withTenant }) =>
        withTenant('acme', async (db) => {
          await db.insertInto('invoices').values(ORPHAN).execute()
          await new Promise((resolve) => setTimeout(resolve, 200))
          await sql`select 1`.execute(db)
        }),
      { code: '25P03' },
    ),
  )

  test('the same, with nothing more to do than to commit', needs('parallelBackends'), () =>
    expectFault(
      { idle_in_transaction_session_timeout: 50 },
      ({ withTenant }) =>
        withTenant('acme', async (db) => {
          await db.insertInto('invoices').values(ORPHAN).execute()
          await new Promise((resolve) => setTimeout(resolve, 200))
        }),
      { code: '25P03' },
    ),
  )

  test('the backend is terminated while a statement runs', needs('parallelBackends', 'superuser'), () =>
    expectFault(
      {},
      ({ withTenant }) =>
        withTenant('acme', async (db) => {
          await db.insertInto('invoices').values(ORPHAN).execute()
          const { rows } = await sql<{ pid: number }>`select pg_backend_pid() as pid`.execute(db)
          const sleeping = sql`select pg_sleep(5)`.execute(db)
          sleeping.catch(() => {})
          await (await database.connect('superuser')).query('select pg_terminate_backend($1)', [rows[0]!.pid])
          await sleeping
        }),
      { code: '57P01' },
    ),
  )

  test('the backend is terminated between statements', needs('parallelBackends', 'superuser'), () =>
    expectFault(
      {},
      ({ withTenant }) =>
        withTenant('acme', async (db) => {
          await db.insertInto('invoices').values(ORPHAN).execute()
          const { rows } = await sql<{ pid: number }>`select pg_backend_pid() as pid`.execute(db)
          await (await database.connect('superuser')).query('select pg_terminate_backend($1)', [rows[0]!.pid])
          await new Promise((resolve) => setTimeout(resolve, 50))
        }),
      { code: '57P01' },
    ),
  )

  test('an idle backend is terminated', needs('parallelBackends', 'superuser'), async () => {
    const rowhouse = open({ pipeline, poolOptions: { max: 1 } })
    const pidOf = async () =>
      (await rowhouse.query('acme', () => sql<{ pid: number }>`select pg_backend_pid() as pid`))[0]!.pid
    const before = await pidOf()
    await (await database.connect('superuser')).query('select pg_terminate_backend($1)', [before])
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(await pidOf()).not.toBe(before)
  })

  test.each([
    'commit',
    'rollback',
    'begin',
    'abort',
    'end',
    'start transaction',
    "prepare transaction 'x'",
    ' ; /* a /* b */ */ -- c\n CoMMit',
  ])('the callback runs %j', (statement) =>
    expectFault(
      {},
      ({ withTenant }) =>
        withTenant('acme', async (db) => {
          await db.insertInto('invoices').values(ORPHAN).execute()
          await sql.raw(statement).execute(db)
        }),
      { code: 'connection_tainted' },
    ),
  )

  test('the callback runs commit and chain behind a savepoint', () =>
    expectFault(
      {},
      ({ withTenant }) =>
        withTenant('acme', async (db) => {
          await sql`savepoint a`.execute(db)
          await sql`rollback to savepoint a`.execute(db)
          await sql`release savepoint a`.execute(db)
          await sql`commit and chain`.execute(db)
        }),
      { code: 'connection_tainted' },
    ))

  test.each(['do $$ begin commit; end $$', 'do $$ begin rollback; end $$', 'vacuum', 'create database nope'])(
    'the server itself refuses %j',
    (statement) =>
      expectFault(
        {},
        ({ withTenant }) =>
          withTenant('acme', async (db) => {
            await db.insertInto('invoices').values(ORPHAN).execute()
            await sql.raw(statement).execute(db)
          }),
        { name: 'error' },
      ),
  )

  test('un-awaited queries when the callback returns', () =>
    expectFault(
      {},
      ({ withTenant }) =>
        withTenant('acme', async (db) => {
          void db.insertInto('invoices').values(ORPHAN).execute()
          void sql`select pg_sleep(0.05)`.execute(db)
          void db
            .insertInto('invoices')
            .values({ ...ORPHAN, id: 998 })
            .execute()
        }),
      { code: 'unawaited_query' },
    ))

  test('an un-awaited nested transaction when the callback returns', () =>
    expectFault(
      {},
      ({ withTenant }) =>
        withTenant('acme', async (db) => {
          db.transaction()
            .execute(async (trx) => {
              await trx.insertInto('invoices').values(ORPHAN).execute()
              await new Promise((resolve) => setTimeout(resolve, 50))
              await trx
                .insertInto('invoices')
                .values({ ...ORPHAN, id: 998 })
                .execute()
            })
            .catch(() => {})
          await new Promise((resolve) => setTimeout(resolve, 20))
        }),
      { code: 'unawaited_query' },
    ))

  test('the callback throws while a query runs: its error wins', () =>
    expectFault(
      {},
      ({ withTenant }) =>
        withTenant('acme', async (db) => {
          void db.insertInto('invoices').values(ORPHAN).execute()
          throw new Error('mine')
        }),
      /mine/,
    ))

  test('a handle that is used after the callback', async () => {
    const { rowhouse, pool } = openOne()
    const handles = await rowhouse.withTenant('acme', async (db, tenant) => {
      let trx: any
      await db.transaction().execute(async (inner) => {
        trx = inner
      })
      await db.selectFrom('invoices').selectAll().execute()
      return { db, trx, tenant, schema: db.withSchema('public'), builder: db.selectFrom('invoices').selectAll() }
    })
    const ended = { code: 'context_ended' }
    await expect(handles.db.selectFrom('invoices').selectAll().execute()).rejects.toMatchObject(ended)
    await expect(handles.schema.selectFrom('invoices').selectAll().execute()).rejects.toMatchObject(ended)
    await expect(handles.builder.execute()).rejects.toMatchObject(ended)
    await expect(handles.db.transaction().execute(async () => 1)).rejects.toMatchObject(ended)
    await expect(handles.tenant.runContext(async () => 1)).rejects.toMatchObject(ended)
    await expect(handles.trx.selectFrom('invoices').selectAll().execute()).rejects.toThrow(/already committed/)
    const late = rowhouse.withTenant('globex', async () => handles.builder.execute())
    await expect(late).rejects.toMatchObject(ended)
    await expectCleanCheckout(pool)
  })

  test('an abort while a statement runs', needs('parallelBackends'), async () => {
    const reason = new Error('the user went away')
    const controller = new AbortController()
    const begun = performance.now()
    await expectFault(
      {},
      ({ withTenant }) =>
        withTenant(
          'acme',
          async (db) => {
            await db.insertInto('invoices').values(ORPHAN).execute()
            setTimeout(() => controller.abort(reason), 50)
            await sql`select pg_sleep(5)`.execute(db)
          },
          { signal: controller.signal },
        ),
      /the user went away/,
    )
    expect(performance.now() - begun).toBeLessThan(4500)
  })

  test('an abort while the callback waits for something else', async () => {
    const controller = new AbortController()
    await expectFault(
      {},
      ({ withTenant }) =>
        withTenant(
          'acme',
          async (db) => {
            await db.insertInto('invoices').values(ORPHAN).execute()
            setTimeout(() => controller.abort(new Error('gone')), 20)
            await new Promise(() => {})
          },
          { signal: controller.signal },
        ),
      /gone/,
    )
  })

  test('an abort before the beginning, and while waiting for a connection', async () => {
    const { rowhouse, pool } = openOne({ connectionTimeoutMillis: 5000 })
    await rowhouse.query('acme', () => sql`select 1`)
    await expect(
      rowhouse.withTenant('acme', async () => 1, { signal: AbortSignal.abort(new Error('early')) }),
    ).rejects.toThrow('early')
    const held = await pool.connect()
    const waiting = rowhouse.withTenant('acme', (db) => sql`select 1`.execute(db), { signal: AbortSignal.timeout(50) })
    await expect(waiting).rejects.toMatchObject({ name: 'TimeoutError' })
    held.release()
    await expectCleanCheckout(pool)
    expect(pool.totalCount).toBe(1)
  })

  test('an abort of a single statement', needs('parallelBackends'), () =>
    expectFault(
      {},
      ({ query }) =>
        query(
          'acme',
          (db) =>
            db.insertInto('invoices').columns(['id', 'note']).expression(sql`select 999, 'orphan' from pg_sleep(2)`),
          { signal: AbortSignal.timeout(50) },
        ),
      { name: 'TimeoutError' },
    ),
  )

  test('the pool is exhausted', async () => {
    const { rowhouse, pool } = openOne()
    await rowhouse.withTenant('acme', async (db) => {
      await sql`select 1`.execute(db)
      // From here on: to connect takes as long as it takes.
      pool.options.connectionTimeoutMillis = 100
      const other = open({ pool, pipeline })
      await expect(other.query('acme', () => sql`select 1`)).rejects.toMatchObject({
        code: 'connection_failed',
        retryable: true,
      })
    })
    await expectCleanCheckout(pool)
  })

  test('the connection is cut during rollback', async () => {
    await using proxy = await startProxy(database.url('app'))
    const pool = database.pool('app', { max: 1, pipeline, connectionString: proxy.url } as pg.PoolConfig)
    const rowhouse = open({ pool, pipeline })
    const failing = rowhouse.withTenant('acme', async (db) => {
      await db.insertInto('invoices').values(ORPHAN).execute()
      proxy.pause()
      setTimeout(() => proxy.cut(), 30)
      setTimeout(() => proxy.resume(), 40)
      throw new Error('mine')
    })
    await expect(failing).rejects.toThrow('mine')
    await expectCleanCheckout(pool)
    await expectNoOrphan()
  })

  test('the connection is cut during commit: the error says so', async () => {
    await using proxy = await startProxy(database.url('app'))
    const pool = database.pool('app', { max: 1, pipeline, connectionString: proxy.url } as pg.PoolConfig)
    const rowhouse = open({ pool, pipeline })
    const failing = rowhouse.withTenant('acme', async (db) => {
      await db.insertInto('invoices').values(ORPHAN).execute()
      proxy.pause()
      setTimeout(() => proxy.cut(), 30)
      setTimeout(() => proxy.resume(), 40)
    })
    await expect(failing).rejects.toThrow(/ECONNRESET|terminated unexpectedly/)
    await expectCleanCheckout(pool)
    await expectNoOrphan()
  })

  test('the connection goes silent: query_timeout ends it', async () => {
    await using proxy = await startProxy(database.url('app'))
    const pool = database.pool('app', {
      max: 1,
      pipeline,
      connectionString: proxy.url,
      query_timeout: 200,
    } as pg.PoolConfig)
    const rowhouse = open({ pool, pipeline })
    const failing = rowhouse.withTenant('acme', async (db) => {
      await db.insertInto('invoices').values(ORPHAN).execute()
      proxy.halfOpen()
      await sql`select 1`.execute(db)
    })
    await expect(failing).rejects.toThrow('Query read timeout')
    proxy.resume()
    await expectCleanCheckout(pool)
    // The server learns of it when the proxy closes.
  })

  test('an abort of a connection that went silent', async () => {
    await using proxy = await startProxy(database.url('app'))
    const pool = database.pool('app', { max: 1, pipeline, connectionString: proxy.url } as pg.PoolConfig)
    const rowhouse = open({ pool, pipeline })
    await rowhouse.query('acme', () => sql`select 1`)
    const failing = rowhouse.withTenant(
      'acme',
      async (db) => {
        proxy.halfOpen()
        await sql`select 1`.execute(db)
      },
      { signal: AbortSignal.timeout(50) },
    )
    await expect(failing).rejects.toMatchObject({ name: 'TimeoutError' })
    proxy.resume()
    await expectCleanCheckout(pool)
  })
})

test('negative control: node-postgres itself hands out a client with an open transaction', async () => {
  const pool = database.pool('app', { max: 1 })
  const client = await pool.connect()
  await client.query("begin; set local role rowhouse_app; set local app.tenant_id = 'acme'")
  client.release()
  expect(await inspectNextCheckout(pool)).toMatchObject({ status: 'T', tenant: 'acme', isLogin: false })
  const last = await pool.connect()
  await last.query('rollback')
  last.release()
})

test('a write that was cut off by its connection is rolled back soon', needs('parallelBackends'), async () => {
  await poll(async () => ((await expectNoOrphan().then(() => true)) ? true : undefined), { message: () => 'orphan' })
})
