// Each lint of sql/doctor: nothing, then exactly its finding when only that is wrong, then nothing when it is mended.
import { join } from 'node:path'
import type pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Finding } from '../../src/doctor/finding.ts'
import { loadLints, parseLint } from '../../src/doctor/lint.ts'
import { createRowhouse, type Rowhouse } from '../../src/index.ts'
import { SQL_FOLDER } from '../../src/migrate/sql-files.ts'
import { useAppTables } from '../isolation/support/app-tables.ts'
import { useClients } from '../isolation/support/clients.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { CASES, type Case, SUPERUSER_CASES } from './cases.ts'

const database = useDatabase()
useAppTables(database)
const clients = useClients(database, 'owner')
let rowhouse: Rowhouse

beforeAll(async () => {
  rowhouse = createRowhouse({ connectionString: database.url('owner') })
  // Everybody may make temporary tables in a new database, and the engine may be an old one: not what is tested.
  await clients.owner.query(`
    revoke temporary on database "${database.name}" from public;
    create table countries (code text primary key, name text);
    grant select on countries to rowhouse_app;
    create table by_day (tenant_id uuid not null, day date, primary key (tenant_id, day)) partition by range (day);
    create table by_day_2026 partition of by_day for values from ('2026-01-01') to ('2027-01-01');
    select rowhouse.protect_table('by_day')`)
})
afterAll(() => rowhouse.close())

const findings = (role?: string): Promise<Finding[]> =>
  rowhouse.doctor({ role, sharedTables: ['public.countries'], level: 'info', ignore: ['outdated_server'] })

async function expectOneThenNone(client: pg.Client, { lint, object, level, make, mend, role, also = [] }: Case) {
  const { rows } = await clients.owner.query('select quote_ident(current_user) as owner')
  const fill = (text: string) =>
    text.replaceAll('%owner', () => rows[0].owner).replaceAll('%database', () => database.name)
  const found = async () =>
    (await findings(role)).filter(({ name }) => !also.includes(name)).map((f) => [f.name, f.level, f.object])
  const lints = await loadLints(join(SQL_FOLDER, 'doctor'))
  if (role !== undefined) await client.query(`create role ${role} in role rowhouse_app`)
  try {
    expect(await found()).toEqual([])
    await client.query(fill(make))
    try {
      expect(await found()).toEqual([[lint, level ?? lints.find(({ name }) => name === lint)?.level, fill(object)]])
    } finally {
      await client.query(fill(mend))
    }
    expect(await found()).toEqual([])
  } finally {
    if (role !== undefined) await client.query(`drop role ${role}`)
  }
}

test('every lint has a case, every case a lint, and every head is complete', async () => {
  const lints = (await loadLints(join(SQL_FOLDER, 'doctor'))).map(({ name }) => name)
  const cases = new Set([...CASES, ...SUPERUSER_CASES].map(({ lint }) => lint))
  // These two are tested in drift.test.ts and below.
  expect([...cases, 'changed_object', 'outdated_schema', 'outdated_server'].sort()).toEqual(lints)
  expect(() => parseLint('a.sql', '-- name: a\n-- level: error\nselect 1')).toThrow('line 3')
  expect(() =>
    parseLint('a.sql', '-- name: a\n-- level: bad\n-- summary: s\n-- ramification: r\n-- resolution: m\nselect 1'),
  ).toThrow('level')
})

describe('0, 1, 0', () => {
  test.each(CASES.map((one, index) => [one.lint, one.object, index + 1, one] as const))(
    '%s: %s (%i)',
    needs('realRoles'),
    (_lint, _object, _number, one) => expectOneThenNone(clients.owner, one),
  )

  test.each(SUPERUSER_CASES.map((one, index) => [one.lint, one.object, index + 1, one] as const))(
    '%s: %s (%i), by a superuser',
    needs('superuser', 'realRoles'),
    async (_lint, _object, _number, one) => expectOneThenNone(await database.connect('superuser'), one),
  )
})

test('what is below the level, ignored by name or by key, is left out', async () => {
  await clients.owner.query('alter table invoices disable row level security; create table drafts (tenant_id text)')
  try {
    const names = async (options: Parameters<Rowhouse['doctor']>[0]) =>
      (await rowhouse.doctor({ sharedTables: ['countries'], ...options })).map(({ name }) => name)
    const ignore = ['outdated_server']
    expect(await names({ ignore })).toEqual(['row_security_off', 'unregistered_table'])
    expect(await names({ ignore, level: 'error' })).toEqual(['row_security_off'])
    expect(await names({ ignore: [...ignore, 'row_security_off', 'unregistered_table:public.drafts'] })).toEqual([])
    await expect(rowhouse.doctor({ level: 'fatal' as never })).rejects.toMatchObject({ code: 'invalid_argument' })
  } finally {
    await clients.owner.query("drop table drafts; select rowhouse.protect_table('invoices')")
  }
})

test('the SQL function has ten columns, and the same findings without a client', async () => {
  await clients.owner.query('alter table invoices disable row level security')
  try {
    const { rows, fields } = await clients.owner.query(
      "select * from rowhouse.doctor('rowhouse_app', array['countries'::regclass]) where name <> 'outdated_server'",
    )
    expect(fields.map(({ name }) => name)).toEqual(
      'name level title table object detail mend ramification resolution cache_key'.split(' '),
    )
    expect(rows.map(({ cache_key }) => cache_key)).toEqual(['row_security_off:public.invoices'])
  } finally {
    await clients.owner.query("select rowhouse.protect_table('invoices')")
  }
})

test('a server that lacks fixes is reported: the same releases as migrate warns of', async () => {
  const { serverWarnings } = await import('../../src/migrate/preflight.ts')
  const { rows } = await clients.owner.query("select current_setting('server_version_num')::int as number")
  const expected = serverWarnings({ versionNumber: rows[0].number }).length
  const found = (await rowhouse.doctor({ sharedTables: ['countries'] })).filter(
    ({ name }) => name === 'outdated_server',
  )
  expect(found).toHaveLength(expected)
  const lint = (await loadLints(join(SQL_FOLDER, 'doctor'))).find(({ name }) => name === 'outdated_server')!
  const { rows: releases } = await clients.owner.query(
    `select f.* from ${/\(values [^f]+\) f \(major, minor\)/.exec(lint.query)![0]}`,
  )
  expect(releases.length).toBeGreaterThan(3)
  for (const { major, minor } of releases) {
    // 0, 1, 0: the release with the fixes, the last one without, and an older one.
    for (const [number, warnings] of [
      [minor + 1, 0],
      [minor, 1],
      [minor - 1, 1],
    ] as const) {
      expect(serverWarnings({ versionNumber: major * 10_000 + number })).toHaveLength(warnings)
      const query = lint.query.replaceAll(
        "current_setting('server_version_num')::integer",
        String(major * 10_000 + number),
      )
      expect((await clients.owner.query(query)).rows).toHaveLength(warnings)
    }
  }
})
