// A tenant that was exported and imported is the same: every value of every type, under its own id in another database and
// under another id in the same one.

import type pg from 'pg'
import { beforeAll, describe, expect, test } from 'vitest'
import type { Rowhouse } from '../../src/index.ts'
import { openRowhouse } from '../audit/support.ts'
import { failure, protect, provision } from '../protect/support.ts'
import { useDatabase } from '../setup/database.ts'
import { exportToMemory, streamOf, textsOf, unpack } from './support.ts'

const home = useDatabase()
const away = useDatabase()
let owner: pg.Client
let awayOwner: pg.Client
let rowhouse: Rowhouse
let awayRowhouse: Rowhouse

/** Every kind of column that is easy to get wrong. */
const SCHEMA = `
  create type mood as enum ('calm', 'very "loud"');
  create type pair as (a int, b text);
  create domain short as text check (length(value) < 20);
  create table "odd ""name""" (
    id bigint generated always as identity,
    tenant_id text not null,
    "Select" text, "a,b" text, " leading" text,
    n numeric, n2 numeric(12, 3), f float8, r float4, b bytea, t timestamptz, t6 timestamptz(6), d date, i interval, tm time, tz timetz,
    j json, jb jsonb, a int[], aa text[], r4 int4range, tr tstzrange, mr nummultirange, m mood, p pair, s short, c char(8), v varchar(5),
    u uuid, ip inet, net cidr, mac macaddr, bits bit(5), vb bit varying, x xml, money_ money, ts tsvector, pt point, o oid, nm name, ch "char",
    full_ text generated always as ("Select" || '!') stored,
    primary key (tenant_id, id));
  create table events (tenant_id text not null, id serial, day date not null, note text, primary key (tenant_id, id, day)) partition by range (day);
  create table events_low partition of events for values from ('2000-01-01') to ('2020-01-01');
  create table events_rest partition of events default;
  create table big (tenant_id text not null, id int, body text, primary key (tenant_id, id));
  create table bare (tenant_id text not null);
`
const ROWS = `
  insert into "odd ""name""" ("Select", "a,b", " leading", n, n2, f, r, b, t, t6, d, i, tm, tz, j, jb, a, aa, r4, tr, mr, m, p, s, c, v,
      u, ip, net, mac, bits, vb, x, money_, ts, pt, o, nm, ch) values
    (E'line\\nfeed\\ttab "quote" \\\\ back', '', null, 'NaN', 0.100, 'Infinity', '-Infinity', '\\x00ff0a5c', '2026-11-21 12:34:56.123456+02',
      'infinity', '0044-03-15 BC', '-1 year 2 mons -3 days 04:05:06.789', '24:00:00', '12:00:00.000001-08', '{"b":1,  "a": [1.0, 1e2]}', '{"b":1,"a":[1.0,1e2]}',
      '{{1,2},{3,null}}', array['a,b', null, '', 'NULL', '"', E'\\\\'], '[1,5)', '["2026-01-01 00:00:00+00",)', '{[1,2],(5,7.5]}',
      'very "loud"', row(null, null), 'short', 'ab', 'abcde', '00000000-0000-4000-8000-00000000000a', '10.0.0.1/8', '10.0.0.0/8', '08:00:2b:01:02:03',
      b'10101', b'1', '<a b="c">d</a>', 12.34, '''a b'':1A fat', '(0.1,-0)', 4294967295, 'a name', 'x'),
    ('ünïcödé 🦜', '}', '{', 123456789012345678901234567890.123456789, -1.5, 0.1, 0.1, '', '1999-12-31 23:59:59.999999+00', '-infinity', 'infinity',
      '1 mon', '00:00:00.000001', '23:59:59+14', 'null', 'null', '{}', '{}', 'empty', '(,)', '{}', 'calm', row(1, 'a,"b'), '', '', '',
      null, '::1', 'fe80::/10', null, null, b'', null, -0.01, '', '(1e300,NaN)', 0, '', ' '),
    (null, null, null, null, null, '-0', '1e-40', null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null,
      null, null, null, null, null, null, null, null, null, null, null, null, null);
  insert into events (day, note) select date '2019-12-25' + g, 'n' || g from generate_series(1, 20) g;
  insert into big select rowhouse.current_tenant(), g, repeat(chr(64 + g), 900000) from generate_series(1, 6) g;
  insert into bare select from generate_series(1, 3);
`
const TABLES = ['"odd ""name"""', 'events', 'big', 'bare']

async function prepare(client: pg.Client) {
  await client.query(SCHEMA)
  for (const table of TABLES) await protect(client, table)
}

async function fill(tenantId: string) {
  await owner.query('begin')
  await owner.query(`set local role rowhouse_app; set local app.tenant_id = '${tenantId}'`)
  await owner.query(ROWS)
  await owner.query('commit')
}

beforeAll(async () => {
  owner = await home.connect('owner')
  awayOwner = await away.connect('owner')
  await prepare(owner)
  await prepare(awayOwner)
  await provision(owner, 'globex')
  rowhouse = openRowhouse(home)
  awayRowhouse = openRowhouse(away)
  await rowhouse.tenants.provision('acme', { name: 'Acme "Inc."', tier: 'professional', settings: { a: [1] } })
  await fill('acme')
  await fill('globex')
  return async () => {
    await rowhouse.close()
    await awayRowhouse.close()
  }
})

const expectEqual = async (client: pg.Client, tenantId: string) => {
  for (const table of TABLES) {
    expect(await textsOf(client, table, tenantId), table).toEqual(await textsOf(owner, table, 'acme'))
  }
}

test('a copy under another id in the same database has the same content', async () => {
  // The key of this table has its tenant, so numbers may be the same.
  const { data, receipt } = await exportToMemory(rowhouse, 'acme')
  const imported = await rowhouse.tenants.import(streamOf(data), { as: 'acme-copy' })
  expect(imported).toMatchObject({ tenantId: 'acme-copy', from: 'acme', contentHash: receipt.contentHash })
  expect(imported.tables).toMatchObject({
    'public.odd "name"': 3,
    'public.events': 20,
    'public.big': 6,
    'public.bare': 3,
  })
  expect(imported.leftOut).toMatchObject({ 'rowhouse.audit_entries': 1 })
  await expectEqual(owner, 'acme-copy')
  expect(await rowhouse.tenants.contentHash('acme-copy')).toBe(receipt.contentHash)
  expect(await rowhouse.tenants.contentHash('acme')).toBe(receipt.contentHash)
  expect(await rowhouse.tenants.get('acme-copy')).toMatchObject({
    name: 'Acme "Inc."',
    tier: 'professional',
    settings: { a: [1] },
    status: 'active',
  })
  const [entry] = await rowhouse.tenant('acme-copy').audit.query({ action: 'rowhouse.tenant.import' })
  expect(entry?.detail).toMatchObject({ id: 'acme', contentHash: receipt.contentHash })
})

test('negative control: another value gives another hash', async () => {
  const before = await rowhouse.tenants.contentHash('acme-copy')
  await rowhouse.withTenant('acme-copy', (db) =>
    db.updateTable('events').set({ note: 'n1 ' }).where('note', '=', 'n1').execute(),
  )
  expect(await rowhouse.tenants.contentHash('acme-copy')).not.toBe(before)
  await rowhouse.withTenant('acme-copy', (db) =>
    db.updateTable('events').set({ note: 'n1' }).where('note', '=', 'n1 ').execute(),
  )
  expect(await rowhouse.tenants.contentHash('acme-copy')).toBe(before)
})

test('in another database under the same id, with the audit trail, which verifies', async () => {
  await rowhouse.tenant('acme').audit.append({ action: 'chat.respond', cost: '0.10', detail: { a: 1 } })
  await rowhouse.auditLog.seal()
  await rowhouse.tenant('acme').audit.append({ action: 'chat.respond', model: 'unsealed' })
  const { key } = await rowhouse.apiKeys.issue('acme', { name: 'importer', scopes: ['*'] })
  const { data, receipt } = await exportToMemory(rowhouse, 'acme')
  const imported = await awayRowhouse.tenants.import(streamOf(data), { contentHash: receipt.contentHash })
  expect(imported.leftOut).toEqual({})
  await expectEqual(awayOwner, 'acme')
  expect(await awayRowhouse.tenants.contentHash('acme')).toBe(receipt.contentHash)
  expect(await awayRowhouse.auditLog.verify('acme')).toMatchObject({ intact: true, segments: 1 })
  expect((await awayRowhouse.apiKeys.authenticate(key)).tenantId).toBe('acme')
  // The chain goes on.
  await awayRowhouse.auditLog.seal()
  expect(await awayRowhouse.auditLog.verify('acme')).toMatchObject({ intact: true, segments: 2, unsealed: 0 })
})

test('numbers of new rows go on behind the imported ones', async () => {
  await awayRowhouse.withTenant('acme', (db) =>
    db.insertInto('events').values({ day: '2026-01-01', note: 'new' }).execute(),
  )
  const { rows } = await awayOwner.query('select last_value from events_id_seq')
  expect(Number(rows[0].last_value)).toBe(21)
})

test('of a promoted tenant as of another', async () => {
  const before = await rowhouse.tenants.contentHash('globex')
  await rowhouse.tenants.promote('globex')
  const { data, receipt } = await exportToMemory(rowhouse, 'globex')
  expect(receipt.contentHash).toBe(before)
  await rowhouse.tenants.import(streamOf(data), { as: 'globex-copy' })
  expect(await rowhouse.tenants.contentHash('globex-copy')).toBe(before)
})

test('tells how far it is, and lists what it wrote', async () => {
  const steps: number[] = []
  const { data, receipt } = await exportToMemory(rowhouse, 'acme', {
    onProgress: ({ rows, totalRows }) => {
      expect(rows).toBeLessThanOrEqual(totalRows)
      steps.push(rows)
    },
  })
  expect(steps.at(-1)).toBe(receipt.rows)
  expect(receipt.bytes).toBe(data.length)
  const names = (await unpack(data)).map(([name]) => name)
  expect(names[0]).toBe('manifest.json')
  expect(names.at(-1)).toBe('digests.json')
  // 5 MB of text are several parts.
  expect(names.filter((name) => name.endsWith('/2.jsonl'))).toHaveLength(1)
})

describe('files of the application', () => {
  async function* files() {
    yield { name: '../../etc/passwd', content: 'hello' }
    yield { name: 'empty', content: new Uint8Array() }
    yield {
      name: 'large',
      content: (async function* () {
        for (let index = 0; index < 5; index++) yield Buffer.alloc(1_000_000, index)
      })(),
    }
  }

  test('travel along, under names that are never paths', async () => {
    const { data, receipt } = await exportToMemory(rowhouse, 'acme', { files: files() })
    expect(receipt.files).toBe(3)
    for (const [name] of await unpack(data))
      expect(name).toMatch(/^(manifest|digests|tables\/[0-9/]+|files\/[0-9]+\/([0-9]+|name))(\.jsonl?)?$/)
    const got = new Map<string, number>()
    const imported = await rowhouse.tenants.import(streamOf(data), {
      as: 'with-files',
      onFile: async ({ name, content }) => {
        let size = 0
        for await (const chunk of content) {
          size += chunk.length
          // Who has seen enough of it.
          if (name === 'large' && size > 100) break
        }
        got.set(name, size)
      },
    })
    expect(imported.files).toBe(3)
    expect([...got]).toEqual([
      ['../../etc/passwd', 5],
      ['empty', 0],
      ['large', 1_000_000],
    ])
  })

  test('an error of the callback imports nothing', async () => {
    const { data } = await exportToMemory(rowhouse, 'acme', { files: files() })
    const error = await failure(
      rowhouse.tenants.import(streamOf(data), {
        as: 'none',
        onFile: () => {
          throw new Error('disk full')
        },
      }),
    )
    expect(error.message).toBe('disk full')
    expect(await rowhouse.tenants.get('none')).toBeUndefined()
  })
})
