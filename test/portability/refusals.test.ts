// What an import refuses, and that nothing of it is left then: archives that were changed, cut off or made by hand, and
// databases that the rows don't fit.

import { createReadStream, createWriteStream } from 'node:fs'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import type pg from 'pg'
import { beforeAll, describe, expect, test } from 'vitest'
import type { Rowhouse, RowhouseError } from '../../src/index.ts'
import { openRowhouse } from '../audit/support.ts'
import { asTenant, failure, protect } from '../protect/support.ts'
import { useDatabase } from '../setup/database.ts'
import { exportToMemory, pack, streamOf, unpack } from './support.ts'

const database = useDatabase()
let owner: pg.Client
let rowhouse: Rowhouse
let archive: Buffer
let entries: [string, string][]

beforeAll(async () => {
  owner = await database.connect('owner')
  await owner.query(`
    create table notes (tenant_id text not null, id int, body text check (body <> 'bad'), primary key (tenant_id, id));
    create table "ev""il; drop table notes" (tenant_id text not null, "a'); --" text)`)
  await protect(owner, 'notes')
  await protect(owner, '"ev""il; drop table notes"')
  rowhouse = openRowhouse(database)
  for (const tenantId of ['acme', 'globex']) {
    await rowhouse.tenants.provision(tenantId)
    await rowhouse.withTenant(tenantId, async (db) => {
      await db
        .insertInto('notes')
        .values([1, 2, 3].map((id) => ({ id, body: `${tenantId} ${id}` })))
        .execute()
      await db
        .insertInto('ev"il; drop table notes' as any)
        .values({ "a'); --": 'x' })
        .execute()
    })
  }
  archive = (await exportToMemory(rowhouse, 'acme')).data
  entries = await unpack(archive)
  return () => rowhouse.close()
})

const importAs = (data: Uint8Array, as = 'copy') => rowhouse.tenants.import(streamOf(data), { as })

/** The import fails with this code, and nobody is there. */
async function refused(data: Uint8Array, code: string, message: RegExp, as = 'copy'): Promise<RowhouseError> {
  const error = (await failure(importAs(data, as))) as unknown as RowhouseError
  expect(error.message).toMatch(message)
  expect(error.code).toBe(code)
  expect(await rowhouse.tenants.get(as)).toBeUndefined()
  expect((await asTenant(owner, as, (c) => c.query('select from notes'))).rows).toEqual([])
  return error
}

/** The archive with entries that were changed. */
const changed = (change: (entries: [string, string][]) => [string, string][]) =>
  pack(change(entries.map(([name, text]) => [name, text])))
const moveToEnd = (text: string, line: string) => (text.includes(line) ? `${text.replace(line, '')}${line}` : text)
const rewrite = (pattern: RegExp, change: (text: string) => string) =>
  changed((all) => all.map(([name, text]) => [name, pattern.test(name) ? change(text) : text]))

test('an archive with hostile names of tables and columns comes back', async () => {
  const imported = await importAs(await pack(entries), 'unchanged')
  expect(imported.tables).toMatchObject({ 'public.ev"il; drop table notes': 1, 'public.notes': 3 })
  expect(imported.contentHash).toBe(await rowhouse.tenants.contentHash('acme'))
})

describe('archives', () => {
  test('that were cut off anywhere', async () => {
    for (const share of [0, 0.1, 0.5, 0.9, 0.999]) {
      await refused(archive.subarray(0, Math.floor(archive.length * share)), 'invalid_archive', /./)
    }
    for (let count = 0; count < entries.length; count++) {
      await refused(await pack(entries.slice(0, count)), 'invalid_archive', /manifest|end is missing|rows of|order/)
    }
  })

  test('that are something else', async () => {
    await refused(Buffer.from('hello'), 'invalid_archive', /no gzipped tar/)
    await refused(Buffer.alloc(0), 'invalid_archive', /./)
    await refused(await pack([['manifest.json', '[]']]), 'invalid_archive', /manifest/)
  })

  test('in which a value, a row or a setting was changed', async () => {
    const tables = /^tables/
    await refused(
      await rewrite(tables, (text) => text.replace('acme 2', 'acme 9')),
      'invalid_archive',
      /rows are not those/,
    )
    await refused(await rewrite(tables, (text) => text.replace('["acme 2","2"]\n', '')), 'invalid_archive', /rows/)
    await refused(
      await rewrite(tables, (text) => (text.includes('acme 1') ? text + text : text)),
      'import_refused',
      /key that is taken/,
    )
    await refused(await rewrite(tables, (text) => moveToEnd(text, '["acme 1","1"]\n')), 'invalid_archive', /rows/)
    await refused(
      await rewrite(/^manifest/, (text) => text.replace('"free"', '"enterprise"')),
      'invalid_archive',
      /manifest was changed/,
    )
    await refused(
      await rewrite(/^digests/, (text) => text.replace(/"contentHash": "./, '"contentHash": "x')),
      'invalid_archive',
      /contentHash/,
    )
  })

  test('of which all digests were made anew, when the hash of the content is given', async () => {
    // Negative control: nothing in the archive tells, because whoever changes it changes its digests too.
    const { data, receipt } = await exportToMemory(rowhouse, 'globex')
    await rowhouse.tenants.import(streamOf(data), { as: 'forged' })
    const original = await rowhouse.tenants.contentHash('acme')
    expect(receipt.contentHash).not.toBe(original)
    const error = await failure(rowhouse.tenants.import(streamOf(data), { as: 'forged-2', contentHash: original }))
    expect(error.message).toMatch(/not the one that was expected/)
    expect(await rowhouse.tenants.get('forged-2')).toBeUndefined()
  })

  test('of a newer format', async () => {
    const error = await refused(
      await rewrite(/^manifest/, (text) => text.replace('"formatVersion": 1', '"formatVersion": 2')),
      'invalid_archive',
      /format version 2/,
    )
    expect(error.hint).toMatch(/later/)
  })

  test.each([
    '../manifest.json',
    '/etc/passwd',
    'tables/../../x',
    'tables/1/1.jsonl/..',
    'C:\\x',
    'files/1/../name.json',
  ])('with an entry called %s', async (name) => {
    await refused(
      await changed((all) => [...all.slice(0, -1), [name, 'x'], ...all.slice(-1)]),
      'invalid_archive',
      /name|order/,
    )
    await refused(await changed((all) => [[name, 'x'], ...all]), 'invalid_archive', /name/)
  })

  test('with something behind their end, or in another order', async () => {
    await refused(await changed((all) => [...all, ['digests.json', '{}']]), 'invalid_archive', /follows/)
    await refused(await changed(([first, ...rest]) => [first!, ...rest.reverse()]), 'invalid_archive', /rows|order/)
  })
})

describe('rows of others', () => {
  test('a line with a tenant in it is no line', async () => {
    const withTenant = await rewrite(/^tables/, (text) => text.replaceAll('"]\n', '","globex"]\n'))
    await refused(withTenant, 'invalid_archive', /rows/)
  })

  test('a manifest that takes the tenant for a column is refused', async () => {
    const forged = await rewrite(/^manifest/, (text) =>
      text
        .replaceAll('"tenantColumn": "tenant_id"', '"tenantColumn": "id"')
        .replaceAll('"name": "id"', '"name": "tenant_id"'),
    )
    await refused(forged, 'import_refused', /tenant column/)
  })

  test('no table but those of tenants is written', async () => {
    for (const table of ['tenants', 'erasures', 'prices', 'migrations']) {
      const forged = await rewrite(/^manifest/, (text) =>
        text
          .replace(/"schema": "public",\s+"tenantColumn"/, '"schema": "rowhouse", "tenantColumn"')
          .replace('"name": "notes"', `"name": "${table}"`)
          .replace(/"name": "ev[^,]*"/, `"name": "${table}"`),
      )
      const error = await failure(importAs(forged))
      expect(error.message).toMatch(/not protected|missing/)
    }
    const operator = await database.connect('operator')
    await operator.query('begin')
    await operator.query('set local role rowhouse_admin')
    const direct = await failure(
      operator.query("select rowhouse.import_rows('globex', 'public', 'notes', '[\"x\",\"9\"]', false)"),
    )
    expect(direct).toMatchObject({ code: 'RH035', message: expect.stringContaining('no import of tenant') })
    await operator.query('rollback')
  })

  test('the application may call none of it', async () => {
    const app = await database.connect('app')
    for (const call of [
      "begin_export('acme')",
      "open_export('acme', 'public', 'notes')",
      "fetch_export('acme', 1)",
      "tenant_digest('acme')",
      "begin_import('acme', '{}', '[]')",
      "import_rows('acme', 'public', 'notes', '', false)",
      "import_together('acme')",
      "finish_import('acme', '[]', '{}', true)",
      "discard_import('acme')",
    ]) {
      const error = await failure(asTenant(app, 'acme', (c) => c.query(`select rowhouse.${call}`)))
      expect(error.code, call).toBe('42501')
    }
  })
})

describe('databases', () => {
  test('in which the tenant has rows, or was erased', async () => {
    const error = (await failure(importAs(archive, 'globex'))) as unknown as RowhouseError
    expect(error).toMatchObject({
      code: 'import_refused',
      message: expect.stringMatching(/exists already and has rows in public/),
    })
    expect((await failure(importAs(archive, 'acme'))).message).toMatch(/exists already/)
    await rowhouse.tenants.provision('gone')
    await rowhouse.tenants.erase('gone')
    expect((await failure(importAs(archive, 'gone'))).message).toMatch(/erased/)
  })

  test('not one in which it was provisioned and has none', async () => {
    await rowhouse.tenants.provision('prepared', { name: 'Prepared' })
    await importAs(archive, 'prepared')
    expect(await rowhouse.tenants.get('prepared')).toMatchObject({ name: 'Prepared', status: 'active' })
    expect((await rowhouse.auditLog.verify('prepared')).intact).toBe(true)
  })

  test('that lack a table or a column, have one more, or another type', async () => {
    for (const [change, restore, message] of [
      ['alter table notes rename to other', 'alter table other rename to notes', /table public\.notes is missing/],
      [
        'alter table notes rename body to text',
        'alter table notes rename text to body',
        /has a column text .*; public\.notes has no column body/,
      ],
      ['alter table notes add column more int', 'alter table notes drop column more', /column more that the archive/],
      [
        'alter table notes alter body type varchar(100)',
        'alter table notes alter body type text',
        /varying\(100\) and was text/,
      ],
    ] as const) {
      await owner.query(change)
      const error = (await failure(importAs(archive))) as unknown as RowhouseError
      expect(error.code).toBe('import_refused')
      expect(error.message).toMatch(message)
      expect(await rowhouse.tenants.get('copy')).toBeUndefined()
      await owner.query(restore)
    }
  })

  test('whose triggers change rows or write others', async () => {
    await owner.query(`
      create function shout() returns trigger language plpgsql as $$ begin new.body := upper(new.body); return new; end $$;
      create trigger shout before insert on notes for each row execute function shout()`)
    await refused(archive, 'import_refused', /rows of table public\.notes are not those/)
    await owner.query('drop trigger shout on notes')
    await importAs(archive, 'afterwards')
  })

  test('whose keys are taken by another tenant: the name of the key, and nothing of the row', async () => {
    await owner.query('create table numbered (tenant_id text not null, id bigserial primary key, body text)')
    await protect(owner, 'numbered')
    await rowhouse.tenants.provision('first')
    await rowhouse.withTenant('first', (db) => db.insertInto('numbered').values({ body: 'canary-1' }).execute())
    const { data } = await exportToMemory(rowhouse, 'first')
    const error = await refused(data, 'import_refused', /numbered has a key that is taken: numbered_pkey/)
    expect(`${error.message}${error.hint}`).not.toMatch(/canary|=\(1\)/)
  })

  test('that may hold rows which no export would see', async () => {
    await owner.query("create table loose (tenant_id text); insert into loose values ('acme')")
    const error = await failure(exportToMemory(rowhouse, 'acme'))
    expect(error.message).toMatch(/loose has a tenant column, is not registered/)
    await owner.query('drop table loose')
    await exportToMemory(rowhouse, 'acme')
  })
})

test('a stream that fails ends the export, and its connection is clean', async () => {
  const to = new Writable({ write: (_chunk, _encoding, done) => done(new Error('disk full')) })
  expect((await failure(rowhouse.tenants.export('acme', { to }))).message).toBe('disk full')
  await exportToMemory(rowhouse, 'acme')
})

test('a source that fails is reported', async () => {
  const source = (async function* () {
    yield archive.subarray(0, 100)
    throw new Error('network gone')
  })()
  const error = await failure(rowhouse.tenants.import(source, { as: 'copy' }))
  expect(error.cause).toMatchObject({ message: 'network gone' })
})

test('an archive does not say itself what belongs to another id', async () => {
  const operator = await database.connect('operator')
  await operator.query('begin; set local role rowhouse_admin')
  const facts = { id: 'elsewhere', name: 'x', tier: 'free', settings: {}, settingsVersion: 0, timeouts: null }
  const tables = [{ schema: 'rowhouse', name: 'api_keys', bound: false, rows: 1, columns: [] }]
  const { rows } = await operator.query("select rowhouse.begin_import('planted', $1, $2) as plan", [
    facts,
    JSON.stringify(tables),
  ])
  await operator.query('rollback')
  expect(rows[0].plan).toEqual([])
})

test('a file that can not be opened is an error of the call, also when it is known before the database was asked', async () => {
  const nowhere = join(import.meta.dirname, 'no-folder', 'archive.tar.gz')
  const outcomes = await Promise.allSettled([
    rowhouse.tenants.export('acme', { to: createWriteStream(nowhere) }),
    rowhouse.tenants.import(createReadStream(nowhere), { as: 'copy' }),
  ])
  expect(outcomes).toMatchObject([
    { status: 'rejected', reason: { code: 'ENOENT' } },
    { status: 'rejected', reason: { code: 'invalid_archive', cause: { code: 'ENOENT' } } },
  ])
})
