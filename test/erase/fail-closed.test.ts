// An erasure that cannot see a row would report that none is left. So it refuses, and erases nothing, wherever a table
// may hold rows of the tenant that it does not know or cannot see.

import type pg from 'pg'
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { asTenant, failure, protect, provision } from '../protect/support.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { brokenReceipts, erase, expectRefused, preview, rowsOf, statusOf } from './support.ts'

const database = useDatabase()
let owner: pg.Client
let tenantNumber = 0
let gone: string

beforeAll(async () => {
  owner = await database.connect('owner')
  await provision(owner, 'kept')
})

beforeEach(async () => {
  await owner.query(`create schema s; grant usage on schema s to rowhouse_owner; set search_path = s, public;
    alter default privileges in schema s grant select on tables to rowhouse_owner;
    create table notes (tenant_id text, v integer)`)
  await protect(owner, 'notes')
  await newTenant(`gone_${tenantNumber++}`)
})

afterEach(async () => {
  await owner.query('drop schema s cascade; reset search_path')
})

/** With two notes. */
async function newTenant(tenantId: string): Promise<void> {
  gone = tenantId
  await provision(owner, gone)
  await asTenant(owner, gone, (c) => c.query('insert into notes (v) values (1), (2)'))
}

/** Refused; listed by the dry run; begin_erasure refuses too and leaves the door open; erased once it is mended. */
async function expectObstacle(message: RegExp, mend: () => Promise<unknown>): Promise<void> {
  const error = await expectRefused(owner, gone, ['notes'], { code: 'RH030', message })
  expect(error.hint).toBeTruthy()
  const { obstacles } = await preview(owner, gone)
  expect(obstacles).toEqual([{ message: error.message, hint: error.hint }])
  expect((await failure(owner.query('select rowhouse.begin_erasure($1)', [gone]))).message).toBe(error.message)
  expect(await statusOf(owner, gone)).toBe('active')
  await mend()
  expect((await preview(owner, gone)).obstacles).toEqual([])
  expect((await erase(owner, gone)).tables['s.notes']).toBe(2)
}

const run = (sql: string) => () => owner.query(sql)

describe('a table that is not registered and holds rows of the tenant', () => {
  test.each([
    ['text', 'text', () => gone],
    ['varchar', 'varchar(64)', () => gone],
    ['a domain', 'rowhouse.tenant_id', () => gone],
    ['a type that is compared as text', 'name', () => gone],
  ])('%s', async (_what, type, value) => {
    await owner.query(`create table stray (tenant_id ${type}); insert into stray values ('${value()}'), ('kept')`)
    await expectObstacle(/^table s\.stray holds 1 rows of the tenant and is not registered$/, async () => {
      await protect(owner, 'stray', {}).catch(() => owner.query(`delete from stray where tenant_id = '${gone}'`))
    })
  })

  test.each([
    ['uuid', '11111111-1111-4111-8111-1111111111'],
    ['bigint', '9007199254740'],
  ])('%s', async (type, prefix) => {
    await newTenant(`${prefix}${10 + tenantNumber}`)
    await owner.query(`create table stray (tenant_id ${type}); insert into stray values ('${gone}')`)
    await expectObstacle(/stray holds 1 rows/, () => protect(owner, 'stray'))
  })

  test('in another schema, with names that need quotes, under a column name that the registry knows', async () => {
    await owner.query(`create schema "o'ther"; create table "o'ther"."T %I" ("Org" text);
      grant usage on schema "o'ther" to rowhouse_owner; grant select on "o'ther"."T %I" to rowhouse_owner;
      create table known ("Org" text); insert into "o'ther"."T %I" values ('${gone}')`)
    await protect(owner, 'known', { column: 'Org' })
    await expectObstacle(/^table "o'ther"\."T %I" holds 1 rows/, () =>
      protect(owner, `"o'ther"."T %I"`, { column: 'Org' }),
    )
    await owner.query(`drop schema "o'ther" cascade`)
  })

  test.each([
    [
      'partitioned',
      `create table stray (tenant_id text, d int) partition by range (d); create table stray_1 partition of stray default`,
    ],
    ['unlogged', 'create unlogged table stray (tenant_id text, d int)'],
    [
      'a child of an inherited table',
      'create table parent (d int); create table stray (tenant_id text) inherits (parent)',
    ],
  ])('%s', async (_what, sql) => {
    await owner.query(`${sql}; insert into stray (tenant_id) values ('${gone}')`)
    await expectObstacle(/stray holds 1 rows/, run('drop table stray cascade; drop table if exists parent'))
  })

  test('a materialized view', async () => {
    await owner.query(`create materialized view stray as select '${gone}' as tenant_id`)
    await expectObstacle(/stray holds 1 rows/, run('drop materialized view stray'))
  })

  test('a child that a registered table got later', async () => {
    await owner.query(`create table late () inherits (notes); insert into late values ('${gone}', 3)`)
    await expectObstacle(/late holds 1 rows/, run('drop table late'))
  })

  test('views are no tables', async () => {
    await owner.query(`create view v as select * from notes`)
    await erase(owner, gone)
  })

  test('one that holds rows of others only is checked, and no obstacle', async () => {
    await owner.query(`create table stray (tenant_id text); insert into stray values ('kept')`)
    expect((await erase(owner, gone)).residue).toMatchObject({ otherTablesChecked: 1 })
  })

  test('an exempt one is skipped, and the receipt says so', async () => {
    await owner.query(`create table stray (tenant_id text); insert into stray values ('${gone}')`)
    await expectObstacle(/stray holds/, run("select rowhouse.exempt_table('stray', 'counts only')"))
    const { rows } = await owner.query('select receipt from rowhouse.erasures where tenant_id = $1', [gone])
    expect(rows[0].receipt.exemptTables).toEqual({ 's.stray': 'counts only' })
    expect((await owner.query('select * from stray')).rows).toEqual([{ tenant_id: gone }])
  })

  test('several obstacles: the first is the message, the others are the detail', async () => {
    await owner.query(`create table s1 (tenant_id text); insert into s1 values ('${gone}');
      create table s2 (tenant_id text); insert into s2 values ('${gone}')`)
    const error = await expectRefused(owner, gone, ['notes'], { code: 'RH030', message: /s1 holds/ })
    expect(error.detail).toMatch(/s2 holds/)
  })

  test('one that cannot be read', needs('realRoles', 'superuser'), async () => {
    const superuser = await database.connect('superuser')
    await superuser.query('create table s.secret (tenant_id text)')
    await expectObstacle(/secret has a tenant column, is not registered and cannot be read/, () =>
      superuser.query('drop table s.secret'),
    )
    await superuser.query(`create table s.secret (tenant_id text); alter table s.secret enable row level security;
      grant select on s.secret to rowhouse_owner; create policy none on s.secret using (false)`)
    await newTenant(`gone_${tenantNumber++}`)
    await expectObstacle(/secret .* cannot be read/, () => superuser.query('drop table s.secret'))
  })

  test('a foreign key of a table without a tenant column', async () => {
    await owner.query(`create table keyed (tenant_id text not null, id int, primary key (tenant_id, id));
      create table stranger (t text, id int, foreign key (t, id) references keyed)`)
    await protect(owner, 'keyed')
    await owner.query(`begin; set local app.tenant_id = '${gone}'; insert into keyed values ('${gone}', 1); commit;
      insert into stranger values ('${gone}', 1)`)
    const error = await expectRefused(owner, gone, ['notes', 'keyed'], { code: 'RH030', message: /s\.stranger/ })
    expect(error.hint).toMatch(/protect_table\('s.stranger'\)/)
  })
})

describe('a registered table whose rows it could not see or keep from being written', () => {
  test.each([
    [
      'a restrictive policy',
      'create policy hides on notes as restrictive using (v > 1)',
      'drop policy hides on notes',
      /policy hides/,
    ],
    [
      'a restrictive policy on delete',
      'create policy hides on notes as restrictive for delete using (v > 1)',
      'drop policy hides on notes',
      /policy hides/,
    ],
    [
      'another condition',
      'alter policy rowhouse_tenant on notes using (v > 1)',
      "select rowhouse.protect_table('notes')",
      /policies of table s.notes are not those/,
    ],
    [
      'another wall',
      'alter policy rowhouse_isolation on notes using (v > 1)',
      "select rowhouse.protect_table('notes')",
      /policies of table s.notes are not those/,
    ],
    [
      'no policy',
      'drop policy rowhouse_tenant on notes',
      "select rowhouse.protect_table('notes')",
      /policies of table/,
    ],
    [
      'no write guard',
      'drop trigger rowhouse_guard on notes',
      "select rowhouse.protect_table('notes')",
      /write guard of table s.notes is missing/,
    ],
    [
      'the write guard disabled',
      'alter table notes disable trigger rowhouse_guard',
      "select rowhouse.protect_table('notes')",
      /write guard/,
    ],
    [
      'another name of the column',
      'alter table notes rename tenant_id to org',
      'alter table notes rename org to tenant_id',
      /has no column tenant_id of type text any more/,
    ],
  ])('%s', async (_what, harm, mend, message) => {
    await owner.query(harm)
    const error = await failure(erase(owner, gone))
    expect(error).toMatchObject({ code: 'RH030', message: expect.stringMatching(message) })
    expect((await preview(owner, gone).catch(() => undefined))?.obstacles.length).not.toBe(0)
    await owner.query(mend)
    expect(await rowsOf(owner, 'notes', gone)).toHaveLength(2)
    expect((await erase(owner, gone)).rows).toBe(2)
  })

  test('no right to delete', needs('realRoles'), async () => {
    await owner.query('revoke delete on notes from rowhouse_owner')
    await expectObstacle(/rowhouse_owner may not read and delete rows of table s.notes/, () => protect(owner, 'notes'))
  })

  test('a policy for the application alone is none of its business', async () => {
    await owner.query('create policy narrow on notes as restrictive to rowhouse_app using (v > 1)')
    expect((await erase(owner, gone)).rows).toBe(2)
    await owner.query('drop policy narrow on notes')
  })
})

test('negative control: what no table says is erased in silence', async () => {
  // The same row under a column that nothing calls a tenant: no check can know it.
  await owner.query(`create table stray (customer text); insert into stray values ('${gone}')`)
  await erase(owner, gone)
  expect((await owner.query('select * from stray')).rows).toEqual([{ customer: gone }])
  expect(await brokenReceipts(owner)).toEqual([])
})
