/**
 * `rowhouse.kysely(id)` behaves as Kysely on its own Postgres dialect: each case runs on both, the latter as the same
 * role with the tenant set for the session, and both must give the same results and errors.
 */

import type { LogEvent } from 'kysely'
import { CamelCasePlugin, Kysely, PostgresDialect, sql } from 'kysely'
import { jsonArrayFrom, jsonObjectFrom } from 'kysely/helpers/postgres'
import type pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { type AppTables, createFixture, resetRows, rowhouseFor } from './fixture.ts'

const database = useDatabase()
const open = rowhouseFor(database)
let plainPool: pg.Pool

beforeAll(async () => {
  await createFixture(database)
  plainPool = database.pool('app', { max: 5 })
})
afterAll(async () => {
  await plainPool.end()
})

function openPlain(options: { log?: (event: LogEvent) => void } = {}): Kysely<AppTables> {
  return new Kysely<AppTables>({
    dialect: new PostgresDialect({
      pool: plainPool,
      onCreateConnection: async (connection) => {
        const run = (text: string) =>
          connection.executeQuery(
            sql.raw(text).compile(new Kysely({ dialect: new PostgresDialect({ pool: plainPool }) })),
          )
        await run('set role rowhouse_app')
        await run("set app.tenant_id = 'acme'")
      },
    }),
    ...options,
  })
}

type Case = (db: Kysely<AppTables>) => Promise<unknown>

/** What a case came to, in a form that can be compared. */
async function outcomeOf(run: Case, db: Kysely<AppTables>): Promise<unknown> {
  try {
    return { result: await run(db) }
  } catch (error) {
    const { name, message, code, constraint, table, severity } = error as Record<string, unknown>
    return { name, message, code, constraint, table, severity, class: (error as object).constructor.name }
  }
}

const settle = (promise: Promise<unknown>) =>
  promise.then(
    (value) => ({ value }),
    (error: Error) => ({ error: error.message }),
  )
const NEW = { id: 50, total: 5, note: 'new' }

const CASES: Record<string, Case> = {
  'select all': (db) => db.selectFrom('invoices').selectAll().orderBy('id').execute(),
  'select one': (db) => db.selectFrom('invoices').selectAll().where('id', '=', 3).executeTakeFirst(),
  'select nothing': (db) => db.selectFrom('invoices').selectAll().where('id', '=', -3).executeTakeFirst(),
  executeTakeFirstOrThrow: (db) => db.selectFrom('invoices').selectAll().where('id', '=', -3).executeTakeFirstOrThrow(),
  'where with many kinds of values': (db) =>
    sql`select ${1}::int a, ${'x'}::text b, ${true}::boolean c, ${null}::text d, ${new Date(0)}::timestamptz e,
        ${[1, 2]}::int[] f, ${JSON.stringify({ a: 1 })}::jsonb g, ${Buffer.from('ab')}::bytea h, ${10n}::int8 i, 1.5::numeric j`
      .execute(db)
      .then(({ rows }) => rows),
  'inner join': (db) =>
    db
      .selectFrom('invoices as i')
      .innerJoin('lines as l', 'l.invoice_id', 'i.id')
      .select(['i.id', 'l.line', 'l.amount'])
      .where('i.total', '>', 50)
      .orderBy('i.id')
      .orderBy('l.line')
      .execute(),
  'left, right and full joins': (db) =>
    db
      .selectFrom('invoices as i')
      .leftJoin('lines as l', (join) => join.onRef('l.invoice_id', '=', 'i.id').on('l.line', '=', 3))
      .rightJoin('currencies as c', (join) => join.onTrue())
      .fullJoin('lines as m', (join) => join.onRef('m.invoice_id', '=', 'i.total'))
      .select(['i.id', 'l.line', 'c.code', 'm.line as other'])
      .orderBy('i.id')
      .orderBy('c.code')
      .orderBy('m.line')
      .orderBy('m.invoice_id')
      .execute(),
  'lateral join': (db) =>
    db
      .selectFrom('invoices as i')
      .leftJoinLateral(
        (eb) =>
          eb
            .selectFrom('lines as l')
            .select((e) => e.fn.sum<string>('l.amount').as('sum'))
            .whereRef('l.invoice_id', '=', 'i.id')
            .as('s'),
        (join) => join.onTrue(),
      )
      .select(['i.id', 's.sum'])
      .orderBy('i.id')
      .execute(),
  'subqueries, exists, in': (db) =>
    db
      .selectFrom('invoices')
      .select((eb) => [
        'id',
        eb
          .selectFrom('lines')
          .select(eb.fn.countAll().as('c'))
          .whereRef('lines.invoice_id', '=', 'invoices.id')
          .as('lines'),
      ])
      .where('id', 'in', db.selectFrom('lines').select('invoice_id').where('amount', '>', 5))
      .where((eb) => eb.exists(eb.selectFrom('lines').select('line').whereRef('invoice_id', '=', 'invoices.id')))
      .orderBy('id')
      .execute(),
  'group by, having, window': (db) =>
    db
      .selectFrom('lines')
      .select((eb) => [
        'invoice_id',
        eb.fn.sum('amount').as('sum'),
        sql<number>`row_number() over (order by invoice_id)`.as('n'),
      ])
      .groupBy('invoice_id')
      .having((eb) => eb.fn.sum('amount'), '>', 4)
      .orderBy('invoice_id')
      .execute(),
  'common table expressions, one named like a table': (db) =>
    db
      .with('big', (e) => e.selectFrom('invoices').select(['id', 'total']).where('total', '>', 50))
      .with('lines', (e) => e.selectFrom('big').select(['big.id as invoice_id', sql<number>`1`.as('line')]))
      .selectFrom('lines' as any)
      .selectAll()
      .orderBy('invoice_id')
      .execute(),
  'recursive common table expression': (db) =>
    db
      .withRecursive(
        't(n)',
        (e) =>
          e.selectNoFrom(sql<number>`1`.as('n')).unionAll(
            e
              .selectFrom('t' as any)
              .select(sql<number>`n + 1`.as('n'))
              .where('n' as any, '<', 4),
          ) as any,
      )
      .selectFrom('t' as any)
      .selectAll()
      .execute(),
  'set operations': (db) =>
    db
      .selectFrom('invoices')
      .select('id')
      .where('id', '<', 3)
      .union(db.selectFrom('lines').select('invoice_id as id').where('invoice_id', '>', 8))
      .except(db.selectFrom('invoices').select('id').where('id', '=', 1))
      .orderBy('id')
      .execute(),
  'json helpers': (db) =>
    db
      .selectFrom('invoices')
      .select((eb) => [
        'id',
        jsonArrayFrom(
          eb.selectFrom('lines').select(['line', 'amount']).whereRef('invoice_id', '=', 'invoices.id').orderBy('line'),
        ).as('lines'),
        jsonObjectFrom(eb.selectFrom('currencies').selectAll().where('code', '=', 'EUR')).as('currency'),
      ])
      .where('id', '<', 3)
      .orderBy('id')
      .execute(),
  insert: (db) => db.insertInto('invoices').values(NEW).execute(),
  'insert several, returning': (db) =>
    db
      .insertInto('invoices')
      .values([NEW, { ...NEW, id: 51 }])
      .returningAll()
      .execute(),
  'insert from select': (db) =>
    db
      .insertInto('invoices')
      .columns(['id', 'total', 'note'])
      .expression(db.selectFrom('invoices').select((eb) => [eb('id', '+', 100).as('id'), 'total', 'note']))
      .executeTakeFirst(),
  'insert on conflict': (db) =>
    db
      .insertInto('invoices')
      .values({ ...NEW, id: 1 })
      .onConflict((oc) => oc.columns(['tenant_id', 'id']).doUpdateSet((eb) => ({ note: eb.ref('excluded.note') })))
      .returning(['id', 'note', 'total'])
      .execute(),
  'insert on conflict do nothing': (db) =>
    db
      .insertInto('invoices')
      .values({ ...NEW, id: 1 })
      .onConflict((oc) => oc.doNothing())
      .executeTakeFirst(),
  update: (db) => db.updateTable('invoices').set({ note: 'changed' }).where('id', '>', 5).executeTakeFirst(),
  'update from': (db) =>
    db
      .updateTable('invoices as i')
      .from('lines as l')
      .set((eb) => ({ total: eb.ref('l.amount') }))
      .whereRef('l.invoice_id', '=', 'i.id')
      .where('l.line', '=', 1)
      .returning(['i.id', 'i.total'])
      .execute()
      .then((rows) => rows.sort((a, b) => a.id - b.id)),
  delete: (db) => db.deleteFrom('lines').where('invoice_id', '=', 4).executeTakeFirst(),
  'delete using': (db) =>
    db
      .deleteFrom('lines')
      .using('invoices')
      .whereRef('invoices.id', '=', 'lines.invoice_id')
      .where('invoices.total', '>', 70)
      .returning(['lines.invoice_id', 'lines.line'])
      .execute()
      .then((rows) => rows.sort((a, b) => a.invoice_id - b.invoice_id || a.line - b.line)),
  merge: (db) =>
    db
      .mergeInto('invoices as i')
      .using('lines as l', (join) => join.onRef('l.invoice_id', '=', 'i.id').on('l.line', '=', 1))
      .whenMatched()
      .thenUpdateSet({ note: 'merged' })
      .executeTakeFirst(),
  withSchema: (db) => db.withSchema('public').selectFrom('invoices').select('id').orderBy('id').execute(),
  'table with schema': (db) =>
    db.selectFrom('public.invoices').select('public.invoices.id').orderBy('public.invoices.id').execute(),
  withPlugin: (db) =>
    db
      .withPlugin(new CamelCasePlugin())
      .selectFrom('lines' as any)
      .select('invoiceId' as any)
      .orderBy('invoiceId' as any)
      .limit(2)
      .execute(),
  withoutPlugins: (db) => db.withoutPlugins().selectFrom('invoices').select('id').orderBy('id').execute(),
  '$extendTables, $pickTables, $omitTables': (db) =>
    db
      .$extendTables<{ other: { id: number } }>()
      .$pickTables<'invoices'>()
      .selectFrom('invoices')
      .select('id')
      .orderBy('id')
      .execute(),
  'dynamic and case': (db) =>
    db
      .selectFrom('invoices')
      .select(db.dynamic.ref<'id'>('id'))
      .select((eb) => eb.case().when('total', '>', 50).then('big').else('small').end().as('size'))
      .orderBy('id')
      .execute(),
  'distinct on, for update, limit, offset': (db) =>
    db.selectFrom('invoices').select('id').orderBy('id').limit(3).offset(2).forUpdate().skipLocked().execute(),
  explain: (db) =>
    db
      .selectFrom('currencies')
      .selectAll()
      .explain('json', sql`costs off`)
      .then((rows) => Object.keys(rows[0] as object)),
  'raw sql': (db) => sql`select id from invoices where id > ${8} order by id`.execute(db),
  'raw sql without parameters': (db) => sql`select count(*) from invoices`.execute(db),
  'raw update': (db) => sql`update invoices set note = 'raw' where id < ${4}`.execute(db),
  'empty statement': (db) => sql.raw('').execute(db),
  'executeQuery with a builder and with a compiled query': async (db) => {
    const builder = db.selectFrom('invoices').select('id').where('id', '<', 3).orderBy('id')
    return [await db.executeQuery(builder), await db.executeQuery(builder.compile())]
  },
  'transaction commits': async (db) => {
    const inside = await db.transaction().execute(async (trx) => {
      await trx.insertInto('invoices').values(NEW).execute()
      return [
        trx.isTransaction,
        db.isTransaction,
        await trx.selectFrom('invoices').select('note').where('id', '=', 50).execute(),
      ]
    })
    return [inside, await db.selectFrom('invoices').select('note').where('id', '=', 50).execute()]
  },
  'transaction rolls back': async (db) => {
    const failure = await settle(
      db.transaction().execute(async (trx) => {
        await trx.deleteFrom('lines').execute()
        throw new Error('mine')
      }),
    )
    return [
      failure,
      await db
        .selectFrom('lines')
        .select((eb) => eb.fn.countAll().as('c'))
        .execute(),
    ]
  },
  'transaction with settings': (db) =>
    db
      .transaction()
      .setIsolationLevel('serializable')
      .setAccessMode('read only')
      .execute((trx) =>
        sql`select current_setting('transaction_isolation') i, current_setting('transaction_read_only') r`.execute(trx),
      ),
  'write in a read-only transaction': (db) =>
    db
      .transaction()
      .setAccessMode('read only')
      .execute((trx) => trx.deleteFrom('lines').execute()),
  'transaction that swallows an error': (db) =>
    db.transaction().execute(async (trx) => {
      await settle(sql`select 1 / 0`.execute(trx))
    }),
  'statement after an error in a transaction': (db) =>
    db.transaction().execute(async (trx) => {
      await settle(sql`select 1 / 0`.execute(trx))
      await trx.selectFrom('invoices').selectAll().execute()
    }),
  'nested transaction call': (db) =>
    db.transaction().execute((trx) => (trx as Kysely<AppTables>).transaction().execute(async () => 1)),
  'transaction used after its end': async (db) => {
    let leaked: Kysely<AppTables> | undefined
    await db.transaction().execute(async (trx) => {
      leaked = trx
    })
    return leaked!.selectFrom('invoices').selectAll().execute()
  },
  'a transaction does not see the outer handle and the other way round': async (db) =>
    db.transaction().execute(async (trx) => {
      await trx.insertInto('invoices').values(NEW).execute()
      return db.selectFrom('invoices').select('id').where('id', '=', 50).execute()
    }),
  'invalid isolation level': (db) =>
    db
      .transaction()
      .setIsolationLevel('chaos' as any)
      .execute(async () => 1),
  'controlled transaction with savepoints': async (db) => {
    const trx = await db.startTransaction().setIsolationLevel('repeatable read').execute()
    await trx.insertInto('invoices').values(NEW).execute()
    const first = await trx.savepoint('one').execute()
    await first.updateTable('invoices').set({ note: 'one' }).where('id', '=', 50).execute()
    const second = await first.savepoint('two').execute()
    await second.updateTable('invoices').set({ note: 'two' }).where('id', '=', 50).execute()
    const back = await second.rollbackToSavepoint('two').execute()
    const released = await back.releaseSavepoint('one').execute()
    const note = await released.selectFrom('invoices').select('note').where('id', '=', 50).execute()
    await released.commit().execute()
    return [note, trx.isCommitted, trx.isRolledBack, await settle(trx.selectFrom('invoices').selectAll().execute())]
  },
  'savepoint heals an error': async (db) => {
    const trx = await db.startTransaction().execute()
    const point = await trx.savepoint('p').execute()
    const failure = await settle(sql`select 1 / 0`.execute(point))
    const healed = await point.rollbackToSavepoint('p').execute()
    const rows = await healed.selectFrom('invoices').select('id').where('id', '=', 1).execute()
    await healed.rollback().execute()
    return [failure, rows, trx.isRolledBack, await settle(trx.rollback().execute())]
  },
  'hostile savepoint name': async (db) => {
    const trx = await db.startTransaction().execute()
    const point = await trx.savepoint('a"; drop table invoices; --').execute()
    await point.rollback().execute()
    return db
      .selectFrom('invoices')
      .select((eb) => eb.fn.countAll().as('c'))
      .execute()
  },
  connection: (db) =>
    db.connection().execute(async (connection) => {
      const pid = () =>
        sql<{ pid: number }>`select pg_backend_pid() as pid`.execute(connection).then(({ rows }) => rows[0]!.pid)
      await sql`select set_config('my.setting', 'kept', false)`.execute(connection)
      const first = await pid()
      const kept = await sql`select current_setting('my.setting') as s`.execute(connection)
      const inTransaction = await connection
        .transaction()
        .execute((trx) => sql<{ pid: number }>`select pg_backend_pid() as pid`.execute(trx))
      return [first === (await pid()), first === inTransaction.rows[0]!.pid, kept.rows]
    }),
  'many at once': (db) =>
    Promise.all(
      Array.from({ length: 25 }, (_, i) => db.selectFrom('invoices').select('id').where('id', '=', i).execute()),
    ),
  introspection: async (db) =>
    (await db.introspection.getTables()).filter(({ schema }) => schema === 'public').map(({ name }) => name),
  'syntax error': (db) => sql`selec 1`.execute(db),
  'unique violation': (db) =>
    db
      .insertInto('invoices')
      .values({ ...NEW, id: 1 })
      .execute(),
  'foreign key violation': (db) => db.insertInto('lines').values({ invoice_id: 999, line: 1, amount: 1 }).execute(),
  'not null violation': (db) =>
    db
      .insertInto('invoices')
      .values({ ...NEW, id: null as any })
      .execute(),
  'missing table': (db) =>
    db
      .selectFrom('nowhere' as any)
      .selectAll()
      .execute(),
  'missing column': (db) =>
    db
      .selectFrom('invoices')
      .select('nothing' as any)
      .execute(),
  'no privilege': (db) => sql`create table public.mine (id int)`.execute(db),
  'writing for another tenant': (db) =>
    db
      .insertInto('invoices')
      .values({ ...NEW, tenant_id: 'globex' })
      .execute(),
  'a value that can not be sent': (db) => {
    const circular: Record<string, unknown> = {}
    circular.self = circular
    return sql`select ${circular}::jsonb`.execute(db).catch((error: Error) => {
      throw new Error(error.message.split('\n')[0])
    })
  },
  'division by zero': (db) => sql`select 1 / ${0}::int`.execute(db),
  'aborted before': (db) =>
    db
      .selectFrom('invoices')
      .selectAll()
      .execute({ signal: AbortSignal.abort(new Error('early')) }),
  'aborted while running, cancelled': (db) =>
    sql`select pg_sleep(3)`.execute(db, {
      signal: AbortSignal.timeout(30),
      inflightQueryAbortStrategy: 'cancel query',
    }),
  'a signal that does not abort': (db) =>
    db
      .selectFrom('invoices')
      .select('id')
      .orderBy('id')
      .execute({ signal: new AbortController().signal, inflightQueryAbortStrategy: 'cancel query' }),
}

/** Where the facade is meant to differ: see the tests below. */
describe.each([false, true])('pipeline %s', (pipeline) => {
  test.each(Object.keys(CASES))('%s', needs('parallelBackends'), async (name) => {
    const plain = openPlain()
    const facade = open({ pipeline }).kysely('acme')
    await resetRows(database, 'acme')
    const expected = await outcomeOf(CASES[name]!, plain)
    await resetRows(database, 'acme')
    expect(await outcomeOf(CASES[name]!, facade)).toEqual(expected)
  })
})

test('log events', async () => {
  const events = (log: LogEvent[]) =>
    log.map(({ level, query }) => [level, query.sql.replace(/"tenant_id" = \$1 and /g, '')])
  const plainLog: LogEvent[] = []
  const facadeLog: LogEvent[] = []
  for (const db of [
    openPlain({ log: (event) => void plainLog.push(event) }),
    open({ log: (event) => void facadeLog.push(event), predicate: false }).kysely('acme'),
  ]) {
    await db.selectFrom('invoices').select('id').execute()
    await settle(sql`select 1 / 0`.execute(db))
  }
  // Kysely logs what its transactions send; of ours only the statements of the user.
  expect(events(facadeLog)).toEqual(events(plainLog).filter(([, text]) => !text!.startsWith('set ')))
  expect(facadeLog.every(({ queryDurationMillis }) => queryDurationMillis > 0)).toBe(true)
})

describe('streaming', () => {
  test.each([false, true])('needs no cursor package (pipeline %s)', async (pipeline) => {
    const db = open({ pipeline, poolOptions: { max: 1 } }).kysely('acme')
    const ids: number[] = []
    for await (const { id } of db.selectFrom('invoices').select('id').orderBy('id').stream(3)) ids.push(id)
    expect(ids).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
  })

  test('left early, the connection is free and clean', async () => {
    const pool = database.pool('app', { max: 1 })
    const db = open({ pool }).kysely('acme')
    for await (const { id } of db.selectFrom('invoices').select('id').orderBy('id').stream(2)) if (id === 3) break
    expect(await db.selectFrom('invoices').select('id').where('id', '=', 1).execute()).toEqual([{ id: 1 }])
  })

  test('inside withTenant, other statements may run between', async () => {
    await open().withTenant('acme', async (db) => {
      let seen = 0
      for await (const { id } of db.selectFrom('invoices').select('id').orderBy('id').stream(2)) {
        await db.updateTable('invoices').set({ note: 'seen' }).where('id', '=', id).execute()
        seen++
      }
      expect(seen).toBe(10)
    })
  })

  test('an error in the middle', async () => {
    const db = open().kysely('acme')
    const read = async () => {
      for await (const _row of db.selectFrom('invoices').select(sql`1 / (id - 5)`.as('x')).orderBy('id').stream(2)) {
      }
    }
    await expect(read()).rejects.toMatchObject({ code: '22012' })
    expect(await db.selectFrom('invoices').select('id').where('id', '=', 1).execute()).toEqual([{ id: 1 }])
  })

  test('what a cursor can not do is refused clearly', async () => {
    const db = open().kysely('acme')
    const stream = async () => {
      for await (const _row of db.deleteFrom('lines').returning('line').stream()) {
      }
    }
    await expect(stream()).rejects.toMatchObject({
      code: 'invalid_argument',
      message: expect.stringContaining('select'),
    })
  })
})

test('a session that is killed by an abort does not take the process with it', needs('parallelBackends'), async () => {
  // Kysely's own dialect has no error listener on the client, so this case can't run on both.
  const pool = database.pool('app', { max: 1 })
  const db = open({ pool }).kysely('acme')
  const sleeping = sql`select pg_sleep(3)`.execute(db, {
    signal: AbortSignal.timeout(30),
    inflightQueryAbortStrategy: 'kill session',
  })
  await expect(sleeping).rejects.toMatchObject({ name: 'TimeoutError' })
  expect(await db.selectFrom('invoices').select('id').where('id', '=', 1).execute()).toEqual([{ id: 1 }])
})

test('destroy() of one handle does not end the others', async () => {
  const rowhouse = open()
  const db = rowhouse.kysely('acme')
  await db.destroy()
  expect(await rowhouse.kysely('acme').selectFrom('invoices').select('id').where('id', '=', 1).execute()).toEqual([
    { id: 1 },
  ])
})

test('an error shows where the query was made', async () => {
  const error: Error = await sql`select 1 / 0`.execute(open().kysely('acme')).then(
    () => new Error('no error'),
    (reason) => reason,
  )
  expect(error.stack).toContain('kysely-comparison.test.ts')
})
