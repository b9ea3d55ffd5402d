// Promotion while everybody works: other tenants read and write on, the tenant itself waits or is told to try again, no
// deadlock surfaces, and no row is lost.

import type pg from 'pg'
import { beforeAll, beforeEach, expect, test } from 'vitest'
import { createRowhouse } from '../../src/index.ts'
import { brokenReceipts, erase, rowsOf } from '../erase/support.ts'
import { asTenant, failure, protect, provision } from '../protect/support.ts'
import { useDatabase } from '../setup/database.ts'
import { openSessions, type Session, waitUntilBlocked } from '../setup/sessions.ts'

const database = useDatabase({ needs: ['parallelBackends'] })
let owner: pg.Client
let mover: Session
let writer: Session
let number = 0
let acme: string

beforeAll(async () => {
  owner = await database.connect('owner')
  ;({ mover, writer } = await openSessions(database, { mover: 'operator', writer: 'app' }))
  await owner.query(`
    create table notes (tenant_id text not null, id int, primary key (tenant_id, id));
    create table entries (tenant_id text not null, id int, note int, primary key (tenant_id, id),
      foreign key (tenant_id, note) references notes on delete cascade)`)
  for (const table of ['notes', 'entries']) await protect(owner, table, { partition: true })
  await provision(owner, 'globex', 'initech')
})

beforeEach(async () => {
  await writer.run('rollback')
  await mover.run('rollback')
  acme = `acme_${number++}`
  await provision(owner, acme)
  await asTenant(owner, acme, (c) =>
    c.query(
      'insert into notes (id) select generate_series(1, 50); insert into entries (id, note) select g, g from generate_series(1, 50) g',
    ),
  )
})

const begin = (tenantId: string) =>
  writer.run(`begin; set local role rowhouse_app; set local app.tenant_id = '${tenantId}'`)
const move = (name: 'promote' | 'demote', tenantId = acme) => mover.run(`select rowhouse.${name}_tenant('${tenantId}')`)

test('other tenants read and write meanwhile, and find every row', async () => {
  const rowhouse = createRowhouse<{ notes: { id: number }; entries: { id: number; note: number } }>({
    connectionString: database.url('app'),
    poolOptions: { max: 6 },
  })
  let stopped = false
  const written: Record<string, number> = { globex: 0, initech: 0 }
  const errors: unknown[] = []
  const write = (tenantId: string, id: number) =>
    rowhouse.withTenant(tenantId, async (db) => {
      await db.insertInto('notes').values({ id }).execute()
      await db.insertInto('entries').values({ id, note: id }).execute()
      const found = await db
        .selectFrom('entries')
        .innerJoin('notes', 'notes.id', 'entries.note')
        .select('entries.id')
        .where('entries.id', '=', id)
        .execute()
      if (found.length !== 1) throw new Error(`row ${id} was found ${found.length} times`)
    })
  const workers = Object.keys(written).flatMap((tenantId) =>
    [0, 1].map(async (half) => {
      for (let id = half; !stopped && errors.length === 0; id += 2) {
        await write(tenantId, id).then(
          () => written[tenantId]!++,
          (error) => errors.push(error),
        )
      }
    }),
  )
  try {
    for (let round = 0; round < 3; round++) {
      for (const name of ['promote', 'demote'] as const) {
        await move(name)
        expect(await rowsOf(owner, 'entries', acme)).toHaveLength(50)
      }
    }
  } finally {
    stopped = true
    await Promise.all(workers)
    await rowhouse.close()
  }
  expect(errors).toEqual([])
  for (const [tenantId, count] of Object.entries(written)) {
    expect(count).toBeGreaterThan(0)
    expect(await rowsOf(owner, 'entries', tenantId)).toHaveLength(count)
  }
})

test.each(['promote', 'demote'] as const)(
  '%s waits for a writer of the tenant, and takes its rows along',
  async (name) => {
    if (name === 'demote') await move('promote')
    await begin(acme)
    await writer.run('insert into notes (id) values (100)')
    const moving = move(name)
    await waitUntilBlocked(mover)
    await writer.run('insert into entries (id, note) values (100, 100)')
    await writer.run('commit')
    await moving
    expect(await rowsOf(owner, 'entries', acme)).toContain(`(${acme},100,100)`)
  },
)

test('a writer of the tenant waits until it is done, and writes into the new partition', async () => {
  await mover.run('begin')
  await move('promote')
  await begin(acme)
  const writing = writer.run('insert into notes (id) values (101)')
  await waitUntilBlocked(writer)
  await mover.run('commit')
  await writing
  await writer.run('commit')
  const { rows } = await asTenant(owner, acme, (c) =>
    c.query('select distinct tableoid::regclass::text as name from notes'),
  )
  expect(rows).toEqual([{ name: expect.stringMatching(/^rowhouse_p[0-9a-f]{16}\.t\d+$/) }])
})

test('a statement that was prepared before finds the rows afterwards', async () => {
  const read = { name: 'read', text: 'select count(*)::int as n from notes where tenant_id = $1' }
  const count = async () => {
    await begin(acme)
    const { rows } = await writer.client.query({ ...read, values: [acme] })
    await writer.run('commit')
    return rows[0].n
  }
  for (let run = 0; run < 7; run++) expect(await count()).toBe(50)
  await move('promote')
  expect(await count()).toBe(50)
  await move('demote')
  expect(await count()).toBe(50)
})

test.each(['promote', 'demote', 'erase'] as const)(
  '%s: a writer that holds a table and waits for the move is no deadlock: the move gives way at once',
  async (name) => {
    if (name !== 'promote') await move('promote')
    // Holds up the last step, for which the tables are wanted alone, until the writer has come.
    const reader = await database.connect('app')
    await reader.query("begin; set local role rowhouse_app; set local app.tenant_id = 'globex'; select from notes")
    const moving = name === 'erase' ? erase(mover.client, acme) : move(name)
    await waitUntilBlocked(mover)
    await begin(acme)
    const writing = writer.client.query('insert into notes (id) values (102)').then(
      () => 'written',
      (error) => error.code,
    )
    const error = await failure(moving)
    expect(error).toMatchObject({ code: 'RH032', hint: 'Suspend the tenant, then try again.' })
    expect(await writing).toBe('written')
    await writer.run('commit')
    await reader.query('commit')
    expect(await rowsOf(owner, 'notes', acme)).toHaveLength(51)
    // Nothing stands in the way any more.
    if (name === 'erase') expect((await erase(mover.client, acme)).rows).toBe(101)
    else await move(name)
    expect(await brokenReceipts(owner)).toEqual([])
  },
)

test('negative control: without the guard a writer holds nothing that a move would wait for', async () => {
  const asRowhouseOwner = (sql: string) => owner.query(`begin; set local role rowhouse_owner; ${sql}; commit`)
  const { rows } = await owner.query("select pg_get_functiondef('rowhouse.guard_tenant_write'::regproc) as definition")
  const locks = async () => {
    await begin(acme)
    await writer.run('insert into notes (id) values (103)')
    const found = await writer.client.query(
      "select from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()",
    )
    await writer.run('rollback')
    return found.rowCount
  }
  expect(await locks()).toBe(1)
  await asRowhouseOwner(`create or replace function rowhouse.guard_tenant_write() returns trigger language plpgsql
    set search_path = pg_catalog, pg_temp as $$ begin return null; end $$`)
  try {
    expect(await locks()).toBe(0)
  } finally {
    await asRowhouseOwner(rows[0].definition)
  }
})
