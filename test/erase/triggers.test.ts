// Triggers and rules of the application run while a tenant is erased. Whatever they write or keep is erased too, or the
// erasure fails and nothing is erased.

import type pg from 'pg'
import { beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { asTenant, protect, provision } from '../protect/support.ts'
import { useDatabase } from '../setup/database.ts'
import { erase, expectRefused, rowsOf } from './support.ts'

const database = useDatabase()
let owner: pg.Client
let number = 0
let gone: string

beforeAll(async () => {
  owner = await database.connect('owner')
  await provision(owner, 'kept')
})

/** Tables notes and history of a schema of their own, with two notes of each tenant. */
beforeEach(async () => {
  gone = `gone_${number}`
  await provision(owner, gone)
  await owner.query(`create schema s${number}; set search_path = s${number++};
    create table notes (tenant_id text not null, id int, v text, primary key (tenant_id, id));
    create table history (tenant_id text not null, entry text);
    create function act() returns trigger language plpgsql as $$ begin return null; end $$`)
  for (const table of ['notes', 'history']) await protect(owner, table)
  for (const tenantId of [gone, 'kept']) {
    await asTenant(owner, tenantId, (c) => c.query("insert into notes (id, v) values (1, 'one'), (2, 'two')"))
  }
})

const act = (body: string) =>
  owner.query(`create or replace function act() returns trigger language plpgsql as $$ begin ${body} end $$`)

describe('what a trigger writes is erased as well', () => {
  test.each([
    ['for each row', 'create trigger t after delete on notes for each row execute function act()'],
    [
      'deferred',
      'create constraint trigger t after delete on notes deferrable initially deferred for each row execute function act()',
    ],
  ])('%s', async (_what, trigger) => {
    await act("insert into history (entry) values ('gone: ' || old.v); return null;")
    await owner.query(trigger)
    const receipt = await erase(owner, gone)
    expect(Object.values(receipt.tables).filter((rows) => rows > 0)).toEqual([2, 2])
    expect(await rowsOf(owner, 'history', gone)).toEqual([])
    expect(await rowsOf(owner, 'notes', 'kept')).toHaveLength(2)
    // The control: the trigger does write.
    await asTenant(owner, 'kept', (c) => c.query('delete from notes where id = 1'))
    expect(await rowsOf(owner, 'history', 'kept')).toEqual(['(kept,"gone: one")'])
  })

  test('a statement trigger with a transition table', async () => {
    await act("insert into history (entry) select 'gone: ' || o.v from olds o; return null;")
    await owner.query(
      'create trigger t after delete on notes referencing old table as olds for each statement execute function act()',
    )
    await erase(owner, gone)
    expect(await rowsOf(owner, 'history', gone)).toEqual([])
  })

  test('a function that names tables without their schema, in the schema of the table', async () => {
    await owner.query(
      'create table counters (n int); insert into counters values (0); grant update, select on counters to public',
    )
    await act('update counters set n = n + 1; return null;')
    await owner.query(
      'create trigger t after delete on notes for each row execute function act(); set search_path = public',
    )
    const schema = `s${number - 1}`
    await erase(owner, gone)
    expect((await owner.query(`select n from ${schema}.counters`)).rows).toEqual([{ n: 2 }])
  })
})

describe('refused, and nothing is erased', () => {
  test.each([
    [
      'a trigger that swallows deletes',
      'return null;',
      'create trigger t before delete on notes for each row execute function act()',
    ],
    [
      'a trigger that swallows some',
      'return case when old.id = 1 then old end;',
      'create trigger t before delete on notes for each row execute function act()',
    ],
    [
      'a trigger that writes the row again',
      'insert into notes values (old.tenant_id, old.id, old.v); return null;',
      'create trigger t after delete on notes for each row execute function act()',
    ],
    [
      'a deferred trigger that writes the row again',
      'insert into notes values (old.tenant_id, old.id, old.v); return null;',
      'create constraint trigger t after delete on notes initially deferred for each row execute function act()',
    ],
    ['a rule', '', 'create rule keep as on delete to notes do instead nothing'],
    [
      'a rule that updates instead',
      '',
      "create rule keep as on delete to notes do instead update notes set v = 'deleted' where id = old.id and tenant_id = old.tenant_id",
    ],
  ])('%s (RH031)', async (_what, body, sql) => {
    if (body !== '') await act(body)
    await owner.query(sql)
    await expectRefused(owner, gone, ['notes', 'history'], {
      code: 'RH031',
      message: /rows of the tenant are left in s\d+\.notes$/,
    })
    // The control: without the check at the end, these rows would have been reported as erased.
    await asTenant(owner, gone, (c) => c.query('delete from notes'))
    expect((await rowsOf(owner, 'notes', gone)).length).toBeGreaterThan(0)
  })

  test('a trigger that writes to a table that is not registered (RH030)', async () => {
    await owner.query(
      'create table archive (tenant_id text, v text); grant insert, select on archive to rowhouse_owner',
    )
    await act('insert into archive values (old.tenant_id, old.v); return null;')
    await owner.query('create trigger t after delete on notes for each row execute function act()')
    await expectRefused(owner, gone, ['notes'], { code: 'RH030', message: /archive holds 2 rows/ })
    expect((await owner.query('select from archive')).rowCount).toBe(0)
    await owner.query('drop table archive cascade')
  })

  test('a trigger that fails', async () => {
    await act("raise exception 'not with me';")
    await owner.query('create trigger t before delete on notes for each row execute function act()')
    await expectRefused(owner, gone, ['notes'], { code: 'P0001', message: /^not with me$/ })
  })
})
