// A tenant that is promoted or demoted works on: its transactions wait when they begin, and none fails.
import { setTimeout as delay } from 'node:timers/promises'
import type pg from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createRowhouse, type Rowhouse } from '../../src/index.ts'
import { rowsOf } from '../erase/support.ts'
import { asTenant, failure, protect, provision } from '../protect/support.ts'
import { useDatabase } from '../setup/database.ts'
import { openSessions, type Session, waitUntilBlocked } from '../setup/sessions.ts'

interface Tables {
  notes: { id: number; text: string }
  entries: { id: number; note: number }
}

const ROWS = 2000
const database = useDatabase({ needs: ['parallelBackends'] })
let owner: pg.Client
let mover: Session
let worker: Session
let rowhouse: Rowhouse<Tables>
let number = 0
let acme: string

beforeAll(async () => {
  owner = await database.connect('owner')
  ;({ mover, worker } = await openSessions(database, { mover: 'operator', worker: 'app' }))
  rowhouse = createRowhouse<Tables>({
    connectionString: database.url('app'),
    admin: { connectionString: database.url('operator') },
    poolOptions: { max: 12 },
  })
  await owner.query(`
    create table notes (tenant_id text not null, id int, text text, primary key (tenant_id, id));
    create table entries (tenant_id text not null, id int, note int, primary key (tenant_id, id),
      foreign key (tenant_id, note) references notes)`)
  for (const table of ['notes', 'entries']) await protect(owner, table, { partition: true })
})
afterAll(() => rowhouse.close())

beforeEach(async () => {
  await worker.run('rollback')
  await mover.run('rollback')
  acme = `acme_${number++}`
  await provision(owner, acme)
  await asTenant(owner, acme, (c) =>
    c.query(`insert into notes (id, text) select g, repeat('text ', 20) from generate_series(1, ${ROWS}) g;
      insert into entries (id, note) select g, g from generate_series(1, ${ROWS}) g`),
  )
})

const locksOnEntry = async () => {
  await owner.query('begin; set local role rowhouse_owner')
  const { rows } = await owner.query('select locks_on_entry from rowhouse.tenants where tenant_id = $1', [acme])
  await owner.query('commit')
  return rows[0].locks_on_entry as boolean
}

test('its own inserts, updates, deletes and reads go on, and no row is lost', { timeout: 60_000 }, async () => {
  const errors: unknown[] = []
  let stopped = false
  let kept = 0
  const work = async (first: number) => {
    for (let id = first; !stopped; id += 4) {
      try {
        await rowhouse.withTenant(acme, async (db) => {
          await db.insertInto('notes').values({ id, text: 'written meanwhile' }).execute()
          await db.insertInto('entries').values({ id, note: id }).execute()
          await db
            .updateTable('notes')
            .set({ text: 'changed' })
            .where('id', '=', 1 + (id % ROWS))
            .execute()
        })
        kept += 1
        const found = await rowhouse.query(acme, (db) => db.selectFrom('notes').select('id').where('id', '=', id))
        if (found.length !== 1) throw new Error(`row ${id} was found ${found.length} times`)
        if (id % 3 > 0) continue
        const deleted = await rowhouse.query(acme, (db) => db.deleteFrom('entries').where('id', '=', id))
        if (deleted[0]!.numDeletedRows !== 1n) throw new Error(`row ${id} was not deleted`)
        kept -= 1
      } catch (error) {
        errors.push(error)
      }
    }
  }
  const working = [1, 2, 3, 4].map((index) => work(ROWS * 10 + index))
  const steps: (string | undefined)[][] = []
  try {
    for (let round = 0; round < 2; round++) {
      for (const name of ['promote', 'demote'] as const) {
        await delay(50)
        await rowhouse.tenants[name](acme, { onProgress: ({ step, table }) => steps.push([step, table]) })
        expect(await locksOnEntry()).toBe(false)
      }
    }
  } finally {
    stopped = true
    await Promise.all(working)
  }
  expect(errors).toEqual([])
  expect(steps.filter(([step, table]) => step === 'moving' && table === undefined)).toHaveLength(4)
  expect(steps).toContainEqual(['moving', 'public.entries'])
  expect(kept).toBeGreaterThan(20)
  expect(await rowsOf(owner, 'entries', acme)).toHaveLength(ROWS + kept)
})

describe('while its rows are about to be moved', () => {
  const enter = (mode: string) =>
    `begin ${mode}; set local role rowhouse_app; set local app.tenant_id = '${acme}'; select rowhouse.enter_tenant()`

  beforeEach(async () => {
    await mover.run(`select rowhouse.begin_relocation('${acme}')`)
    await mover.run('select rowhouse.await_entries()')
    await mover.run(`begin; select rowhouse.promote_tenant('${acme}')`)
  })

  test('a transaction waits when it begins, with no table in hand', async () => {
    const entering = worker.run(enter('read write'))
    await waitUntilBlocked(worker)
    const { rows } = await owner.query(
      `select count(*)::int as n from pg_locks where pid = (select pid from pg_stat_activity where application_name = 'worker'
        and datname = current_database()) and relation in ('notes'::regclass, 'entries'::regclass)`,
    )
    expect(rows).toEqual([{ n: 0 }])
    await mover.run('commit')
    await entering
    await worker.run('insert into notes (id) values (0); commit')
    expect(await locksOnEntry()).toBe(false)
  })

  test('what only reads does not wait, nor do other tenants', async () => {
    await mover.run('rollback')
    await provision(owner, 'globex')
    // What a move holds while it copies.
    const holder = await database.connect('owner')
    await holder.query(`begin; set local role rowhouse_owner; select rowhouse.lock_tenant('${acme}')`)
    await worker.run(enter('read only'))
    expect((await worker.client.query('select count(*)::int as n from notes')).rows).toEqual([{ n: ROWS }])
    await worker.run('commit')
    await rowhouse.query('globex', (db) => db.insertInto('notes').values({ id: number, text: '' }))
    const entering = worker.run(enter('read write'))
    await waitUntilBlocked(worker)
    await holder.query('commit')
    await entering
    await worker.run('commit')
  })

  test('one with an older snapshot is told to try again, and does not miss the rows', async () => {
    const entering = failure(worker.run(enter('isolation level repeatable read')))
    await waitUntilBlocked(worker)
    await mover.run('commit')
    expect(await entering).toMatchObject({ code: '40001' })
  })
})

test('a move that fails leaves the tenant as it was', async () => {
  // A transaction of another tenant that uses the table for long.
  await provision(owner, 'initech')
  await worker.run("begin; set local role rowhouse_app; set local app.tenant_id = 'initech'; select from notes")
  const busy = await database.connect('operator')
  await busy.query(`select rowhouse.begin_relocation('${acme}')`)
  // Cut off, as a process that is killed.
  await failure(busy.query(`set statement_timeout = '500ms'; select rowhouse.promote_tenant('${acme}')`))
  expect(await locksOnEntry()).toBe(true)
  // The tenant works meanwhile, and a later call finishes it.
  await rowhouse.query(acme, (db) => db.insertInto('notes').values({ id: 0, text: 'still working' }))
  await worker.run('commit')
  expect((await rowhouse.tenants.promote(acme)).tables['public.notes']).toBe(ROWS + 1)
  expect(await locksOnEntry()).toBe(false)
  await failure(rowhouse.tenants.promote('nobody'))
})

test('preparing lets attaching read no other partition', async () => {
  await provision(owner, 'large')
  await asTenant(owner, 'large', (c) =>
    c.query("insert into notes (id, text) select g, repeat('text ', 50) from generate_series(1, 40000) g"),
  )
  const tables: (string | undefined)[] = []
  await rowhouse.tenants.promote(acme, { onProgress: ({ step, table }) => step === 'preparing' && tables.push(table) })
  // Once to add the constraints, once to validate them; a small table is not worth it.
  expect(tables).toEqual(['notes', 'notes'].map((table) => expect.stringContaining(table)))
  const { rows } = await owner.query("select from pg_constraint where conname like 'rowhouse\\_without\\_%'")
  expect(rows).toEqual([])
})

test('negative control: without the first step a writer of the tenant is in the way', async () => {
  const reader = await database.connect('app')
  await reader.query("begin; set local role rowhouse_app; set local app.tenant_id = 'globex'; select from notes")
  const moving = failure(mover.run(`select rowhouse.promote_tenant('${acme}')`))
  await waitUntilBlocked(mover)
  const writing = rowhouse.query(acme, (db) => db.insertInto('notes').values({ id: 0, text: '' }))
  expect(await moving).toMatchObject({ code: 'RH032' })
  await writing
  await reader.query('commit')
})
