// Writers of the tenant and its erasure exclude each other: who wrote first is erased too, who comes later fails, and no
// row survives, in every isolation level.

import type pg from 'pg'
import { beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createRowhouse, TenantInactiveError } from '../../src/index.ts'
import { failure, protect, provision } from '../protect/support.ts'
import { useDatabase } from '../setup/database.ts'
import { openSessions, type Session, waitUntilBlocked } from '../setup/sessions.ts'
import { brokenReceipts, erase, rowsOf, statusOf } from './support.ts'

const database = useDatabase({ needs: ['parallelBackends'] })
let owner: pg.Client
let writer: Session
let eraser: Session
let number = 0
let gone: string

beforeAll(async () => {
  owner = await database.connect('owner')
  ;({ writer, eraser } = await openSessions(database, { writer: 'app', eraser: 'operator' }))
  await owner.query(`
    create table notes (tenant_id text not null, id int, primary key (tenant_id, id));
    create table entries (tenant_id text not null, id int, note int, primary key (tenant_id, id),
      foreign key (tenant_id, note) references notes on delete cascade)`)
  for (const table of ['notes', 'entries']) await protect(owner, table)
})

beforeEach(async () => {
  await writer.run('rollback')
  await eraser.run('rollback')
  gone = `gone_${number++}`
  await provision(owner, gone)
})

const begin = (level = 'read committed') =>
  writer.run(`begin isolation level ${level}; set local role rowhouse_app; set local app.tenant_id = '${gone}'`)
const insert = (id: number) => writer.run(`insert into notes (id) values (${id})`)

async function expectGone(): Promise<void> {
  expect(await statusOf(owner, gone)).toBe('erased')
  for (const table of ['notes', 'entries']) expect(await rowsOf(owner, table, gone)).toEqual([])
  expect(await brokenReceipts(owner)).toEqual([])
}

/** An older snapshot cannot see that the tenant was erased: Postgres refuses it as a whole, and trying again tells why. */
const LEVELS = [
  ['read committed', 'RH004'],
  ['repeatable read', '40001'],
  ['serializable', '40001'],
] as const

describe.each(LEVELS)('%s', (level, refusal) => {
  test('who wrote before is waited for, may write on, and is erased', async () => {
    await begin(level)
    await insert(1)
    const erasing = erase(eraser.client, gone)
    await waitUntilBlocked(eraser)
    await insert(2)
    await writer.run('insert into entries (id, note) values (1, 2); delete from notes where id = 1')
    await writer.run('commit')
    expect((await erasing).tables).toMatchObject({ 'public.notes': 1, 'public.entries': 1 })
    await expectGone()
  })

  test('who began before and writes later is refused', async () => {
    await begin(level)
    await writer.run('select from notes')
    await erase(eraser.client, gone)
    expect((await failure(insert(1))).code).toBe(refusal)
    await writer.run('rollback')
    await expectGone()
    await begin(level)
    expect((await failure(insert(1))).code).toBe('RH004')
    await writer.run('rollback')
  })

  test.each([
    ['insert', 'insert into notes (id) values (2)'],
    ['update', 'update notes set id = 3'],
    ['upsert', 'insert into notes (id) values (1) on conflict (tenant_id, id) do update set id = excluded.id'],
    ['part of a query', 'with n as (insert into notes (id) values (4) returning id) select * from n'],
  ])('who comes in between waits and is refused: %s', async (_what, statement) => {
    await begin()
    await insert(1)
    await writer.run('commit')
    await eraser.run('begin')
    await erase(eraser.client, gone)
    await begin(level)
    const writing = failure(writer.run(statement))
    await waitUntilBlocked(writer)
    await eraser.run('commit')
    expect((await writing).code).toBe(refusal)
    await writer.run('rollback')
    await expectGone()
  })

  test('a delete in between waits, finds nothing, and does no harm', async () => {
    await begin()
    await insert(1)
    await writer.run('commit')
    await eraser.run('begin')
    await erase(eraser.client, gone)
    await begin(level)
    const deleting = writer.client.query('delete from notes').catch((error) => error)
    await waitUntilBlocked(writer)
    await eraser.run('commit')
    const result = await deleting
    expect(result.rowCount ?? 0).toBe(0)
    expect((await failure(insert(2))).code).toMatch(/RH004|40001|25P02/)
    await writer.run('rollback')
    await expectGone()
  })

  test('when the erasure is given up, the writer goes on', async () => {
    await eraser.run('begin')
    await erase(eraser.client, gone)
    await begin(level)
    const writing = insert(1)
    await waitUntilBlocked(writer)
    await eraser.run('rollback')
    await writing
    await writer.run('commit')
    expect(await rowsOf(owner, 'notes', gone)).toHaveLength(1)
    expect(await statusOf(owner, gone)).toBe('active')
  })
})

test('a statement that was prepared before is refused as well', async () => {
  const client = await database.connect('app')
  const prepared = { name: 'add', text: 'insert into notes (id) values ($1)' }
  const work = async (id: number) => {
    await client.query(`begin; set local role rowhouse_app; set local app.tenant_id = '${gone}'`)
    await client.query({ ...prepared, values: [id] }).finally(() => client.query('commit'))
  }
  for (let id = 1; id <= 6; id++) await work(id)
  expect((await erase(eraser.client, gone)).rows).toBe(6)
  expect((await failure(work(7))).code).toBe('RH004')
  await expectGone()
})

test('another isolation level is no place to erase in', async () => {
  await eraser.run('begin isolation level repeatable read')
  expect((await failure(erase(eraser.client, gone))).code).toBe('25000')
  await eraser.run('rollback')
  expect(await statusOf(owner, gone)).toBe('active')
})

test('a tenant that never rests: every row is erased, every refusal is TenantInactiveError', async () => {
  const rowhouse = createRowhouse<{ notes: { id: number } }>({
    connectionString: database.url('app'),
    admin: { connectionString: database.url('operator') },
    poolOptions: { max: 8 },
  })
  try {
    let stopped = false
    let written = 0
    const refusals: unknown[] = []
    const writers = Array.from({ length: 8 }, async (_, index) => {
      for (let id = index; !stopped; id += 8) {
        try {
          await rowhouse.withTenant(gone, async (db) => {
            await db.insertInto('notes').values({ id }).execute()
            await db
              .deleteFrom('notes')
              .where('id', '=', id - 16)
              .execute()
          })
          written++
        } catch (error) {
          refusals.push(error)
        }
      }
    })
    while (written < 40) await new Promise((resolve) => setTimeout(resolve, 5))
    await rowhouse.tenants.erase(gone)
    while (refusals.length < 20) await new Promise((resolve) => setTimeout(resolve, 5))
    stopped = true
    await Promise.all(writers)
    for (const refusal of refusals) expect(refusal).toBeInstanceOf(TenantInactiveError)
    await expectGone()
  } finally {
    await rowhouse.close()
  }
})

test('negative control: without the guard the row survives', async () => {
  const asRowhouseOwner = (sql: string) => owner.query(`begin; set local role rowhouse_owner; ${sql}; commit`)
  const { rows } = await owner.query("select pg_get_functiondef('rowhouse.guard_tenant_write'::regproc) as definition")
  await asRowhouseOwner(`create or replace function rowhouse.guard_tenant_write() returns trigger language plpgsql
    set search_path = pg_catalog, pg_temp as $$ begin return null; end $$`)
  try {
    await begin()
    await insert(1)
    expect((await erase(eraser.client, gone)).rows).toBe(0)
    await writer.run('commit')
    expect(await rowsOf(owner, 'notes', gone)).toHaveLength(1)
  } finally {
    await asRowhouseOwner(rows[0].definition)
  }
})
