// What an erasure can't know about is found afterwards: an id or a name in whatever table or corner of the database.
import { writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createRowhouse, type Residue, type Rowhouse } from '../../src/index.ts'
import { runCommand } from '../cli/run-command.ts'
import { protect } from '../protect/support.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'

const database = useDatabase({ needs: ['superuser'] })
const TEXTS = ['Ada "the first" Lovelace', 'ada@acme.example']
let superuser: pg.Client
let rowhouse: Rowhouse
beforeAll(async () => {
  superuser = await database.connect('superuser')
  rowhouse = createRowhouse({ connectionString: database.url('superuser') })
  const owner = await database.connect('owner')
  await owner.query('create table notes (tenant_id text, body text)')
  await protect(owner, 'notes')
  await rowhouse.tenants.provision('acme', { name: TEXTS[0] })
  await rowhouse.tenants.provision('globex')
  const app = createRowhouse({ connectionString: database.url('app') })
  for (const tenantId of ['acme', 'globex']) {
    await app.withTenant(tenantId, (db) =>
      db
        .insertInto('notes')
        .values({ body: `of ${tenantId}` })
        .execute(),
    )
  }
  await app.close()
  await rowhouse.tenants.erase('acme')
  await superuser.query('analyze')
})
afterAll(() => rowhouse.close())

const residueOf = async (found: readonly Residue[]) => found.map(({ object, rows }) => `${object}: ${rows}`)
const find = async () => residueOf(await rowhouse.erasures.findResidue('acme', { texts: TEXTS }))

test('after an erasure nothing is left', async () => {
  expect(await find()).toEqual([])
})

/** Where something could be left, and how it goes. */
const PLACES: Record<string, { leave: string; remove: string; found: string }> = {
  'a column of text': {
    leave: "create table logs as select 'GET /t/acme/invoices' as line",
    remove: 'drop table logs',
    found: 'public.logs: 1',
  },
  'a JSON document': {
    leave: `create table documents as select jsonb_build_object('who', jsonb_build_array('Ada "the first" Lovelace')) as document`,
    remove: 'drop table documents',
    found: 'public.documents: 1',
  },
  bytes: {
    leave:
      "create table files as select convert_to('mail ada@acme.example', 'UTF8') as content from generate_series(1, 2)",
    remove: 'drop table files',
    found: 'public.files: 2',
  },
  'a materialized view': {
    leave: "create materialized view summary as select 'acme' as customer",
    remove: 'drop materialized view summary',
    found: 'public.summary: 1',
  },
  'a partition': {
    leave:
      "create table parts (id int, body text) partition by list (id); create table part_1 partition of parts for values in (1); insert into parts values (1, 'acme')",
    remove: 'drop table parts',
    found: 'public.parts: 1',
  },
  'a row of another tenant': {
    leave: `insert into notes values ('globex', 'We know ada@acme.example')`,
    remove: `delete from notes where body like 'We know%'`,
    found: 'public.notes: 1',
  },
  'a row of the tenant, behind our back': {
    leave: `set session_replication_role = replica; insert into notes values ('acme', 'again'); reset session_replication_role`,
    remove: `set session_replication_role = replica; delete from notes where tenant_id = 'acme'; reset session_replication_role`,
    found: 'public.notes: 1',
  },
  'a large object': {
    leave: "select lo_from_bytea(4711, convert_to('about acme', 'UTF8'))",
    remove: 'select lo_unlink(4711)',
    found: 'large objects: 1',
  },
  'statistics of the planner': {
    leave: `create table visits as select 'acme' as who from generate_series(1, 100); analyze visits; delete from visits`,
    remove: 'drop table visits',
    found: 'statistics of the planner: 1',
  },
  'statistics of the registry': {
    leave: `set session_replication_role = replica; update rowhouse.tenants set name = 'ada@acme.example'; reset session_replication_role; analyze rowhouse.tenants; update rowhouse.tenants set name = tenant_id`,
    remove: 'analyze rowhouse.tenants',
    found: 'statistics of the planner: 1',
  },
  'a comment': {
    leave: "create table things (); comment on table things is 'ordered by acme'",
    remove: 'drop table things',
    found: 'comments: 1',
  },
  'the name of a schema': {
    leave: 'create schema acme; create table acme.t (id int)',
    remove: 'drop schema acme cascade',
    found: 'names: 1',
  },
}

describe('is found:', () => {
  test.each(Object.entries(PLACES))('%s', async (_, { leave, remove, found }) => {
    await superuser.query(leave)
    expect(await find()).toEqual([found])
    await superuser.query(remove)
    expect(await find()).toEqual([])
  })
})

test('an id that is only a part of another word is not it', async () => {
  await superuser.query("create table others as select unnest(array['acme2', 'acme_2', 'my-acme', 'pacmen']) as id")
  expect(await find()).toEqual([])
  await superuser.query("insert into others values ('of acme.')")
  expect(await find()).toEqual(['public.others: 1'])
  await superuser.query('drop table others')
})

test('what the login may not read or see is not passed over', needs('realRoles'), async () => {
  await superuser.query(`create table private as select 'x' as body; revoke all on private from public`)
  const asOwner = createRowhouse({ connectionString: database.url('owner') })
  const found = await asOwner.erasures.findResidue('acme')
  await asOwner.close()
  await superuser.query('drop table private')
  const notes = Object.fromEntries(found.map(({ object, rows, note }) => [object, { rows, note }]))
  expect(notes['public.private']).toEqual({
    rows: undefined,
    note: expect.stringMatching(/^not looked through: .* may not read it$/),
  })
  expect(notes['public.notes']).toEqual({
    rows: undefined,
    note: expect.stringMatching(/^holds no row of the tenant; not looked through/),
  })
})

test('the command fails when it finds something, and says where', async () => {
  const texts = join(tmpdir(), `texts-${process.pid}-${Date.now()}.txt`)
  await writeFile(texts, TEXTS.join('\n'))
  const run = () =>
    runCommand(['tenant', 'verify-erasure', 'acme', '--texts', texts], { DATABASE_URL: database.url('superuser') })
  expect(await run()).toMatchObject({
    exitCode: 0,
    stdout: expect.stringMatching(/intact\.\nNothing of acme was found/),
  })
  await superuser.query(PLACES['a column of text']!.leave)
  expect(await run()).toMatchObject({
    exitCode: 1,
    stdout: expect.stringMatching(/^public\.logs +1 +rows that mention/m),
  })
  await superuser.query(PLACES['a column of text']!.remove)
})
