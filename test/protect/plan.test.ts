// The plan: a dry run writes nothing, its statements run one by one do what the call does, and whatever was done before
// is not done again.

import type pg from 'pg'
import { beforeAll, describe, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { asTenant, describeSchema, failure, protect, provision } from './support.ts'

const database = useDatabase()
let owner: pg.Client

beforeAll(async () => {
  owner = await database.connect('owner')
  await provision(owner, 'acme', 'globex', 'gone')
  await owner.query("select rowhouse.suspend_tenant('globex')")
  await owner.query("select rowhouse.begin_erasure('gone')")
})

/** The same tables, with rows, in a schema of this name. */
async function createTables(schema: string): Promise<void> {
  await owner.query(`
    create schema "${schema}";
    set search_path = "${schema}";
    create table parents (tenant_id text, id serial, note text, primary key (tenant_id, id));
    create table plain (id bigint generated always as identity primary key, note text);
    create table partial (tenant_id varchar(64), id serial primary key, parent integer, g integer generated always as (id * 2) stored,
      note text default 'x' check (note <> ''), unique (tenant_id, id),
      foreign key (tenant_id, parent) references parents on delete cascade);
    create index on partial using gin (to_tsvector('simple', note));
    comment on table partial is 'Some tenant''s';
    create function stamp() returns trigger language plpgsql as $$ begin new.note := coalesce(new.note, 'stamped'); return new; end $$;
    create trigger stamp before insert or update on partial for each row execute function stamp();
    create table ranges (v integer, note text) partition by range (v);
    create table ranges_1 partition of ranges for values from (0) to (10);
    create table ranges_2 partition of ranges default;
    grant select on ranges_1 to public;
    insert into parents values ('acme', 1);
    insert into plain (note) values ('one'), ('two');
    insert into partial (tenant_id, parent, note) values ('acme', 1, 'one'), (null, null, 'two');
    insert into ranges values (1, 'one'), (20, 'two');
    reset search_path`)
}

const TABLES = [
  { name: 'parents' },
  { name: 'plain', existingRows: 'acme' },
  { name: 'partial', existingRows: 'acme' },
  { name: 'ranges', existingRows: 'acme' },
] as const

describe('a dry run', () => {
  test('writes nothing', async () => {
    await createTables('dry')
    const before = await describeSchema(owner, 'dry')
    for (const { name, ...options } of TABLES) {
      const report = await protect(owner, `dry.${name}`, { ...options, dryRun: true })
      expect(report.dryRun).toBe(true)
      expect(report.steps.length).toBeGreaterThan(8)
      expect(report.steps.some(({ done }) => done)).toBe(false)
    }
    expect(await describeSchema(owner, 'dry')).toEqual(before)
    // In a read-only transaction it could not.
    await owner.query('begin read only')
    await protect(owner, 'dry.plain', { existingRows: 'acme', dryRun: true })
    await owner.query('rollback')
  })

  test.each(TABLES)('of $name lists what the call does, in the same order', async ({ name, ...options }) => {
    const dry = await protect(owner, `dry.${name}`, { ...options, dryRun: true })
    const wet = await protect(owner, `dry.${name}`, options)
    expect(wet.steps.map(({ statement }) => statement)).toEqual(dry.steps.map(({ statement }) => statement))
    expect(wet.steps.every(({ done }) => done)).toBe(true)
  })
})

describe.each([false, true])('statements of a dry run, each in its own transaction (partition: %s)', (partition) => {
  test('give what the call gives', async () => {
    const [called, stepwise] = [`called_${partition}`, `stepwise_${partition}`]
    await createTables(called)
    await createTables(stepwise)
    for (const { name, ...options } of TABLES) {
      // What cannot be laid out: its key does not contain the tenant.
      const arrangement = { ...options, partition: partition && name === 'parents' }
      await protect(owner, `${called}.${name}`, arrangement)
      const { steps } = await protect(owner, `${stepwise}.${name}`, { ...arrangement, dryRun: true })
      for (const { statement } of steps) await owner.query(statement)
      expect((await protect(owner, `${stepwise}.${name}`, arrangement)).steps).toEqual([])
    }
    expect(await describeSchema(owner, stepwise)).toEqual(await describeSchema(owner, called))
    for (const schema of [called, stepwise]) {
      const rows = await asTenant(owner, 'acme', (c) => c.query(`select note from ${schema}.partial order by id`))
      expect(rows.rows).toEqual([{ note: 'one' }, { note: 'two' }])
    }
  })

  test('leave the table closed to the application until it is protected', async () => {
    const schema = `closed_${partition}`
    await createTables(schema)
    const { steps } = await protect(owner, `${schema}.parents`, { partition, dryRun: true })
    const active = async () => {
      const { rows } = await owner.query(
        `select has_table_privilege('rowhouse_app', '${schema}.parents', 'select') as readable,
           c.relrowsecurity and c.relforcerowsecurity and (select count(*) = 2 from pg_policy p where p.polrelid = c.oid) as protected
         from pg_class c where c.oid = '${schema}.parents'::regclass`,
      )
      return rows[0]
    }
    for (const { statement } of steps) {
      const { readable, protected: isProtected } = await active()
      expect(readable && !isProtected, statement).toBe(false)
      await owner.query(statement)
    }
    expect(await active()).toEqual({ readable: true, protected: true })
  })
})

describe('protecting again', () => {
  test('takes in partitions that came later', async () => {
    await owner.query(`
      create table later (tenant_id text, v integer) partition by range (v);
      create table later_1 partition of later for values from (0) to (10)`)
    await protect(owner, 'later')
    await owner.query(`
      create table later_2 partition of later for values from (10) to (20);
      grant select on later_2 to public`)
    await provision(owner, 'other')
    await asTenant(owner, 'other', (c) => c.query('insert into later (v) values (11)'))
    const leak = () => asTenant(owner, 'acme', (c) => c.query('select from later_2'))
    // The negative control: until then a query that names the partition sees every tenant's rows.
    expect((await leak()).rowCount).toBe(1)
    const report = await protect(owner, 'later')
    expect(report.steps.every(({ statement }) => /later_2|register_table/.test(statement))).toBe(true)
    expect((await failure(leak())).code).toBe('42501')
    expect((await protect(owner, 'later')).steps).toEqual([])
  })

  test('lets the application update columns that came later', async () => {
    await owner.query('create table grown (tenant_id text, v integer)')
    await protect(owner, 'grown')
    await owner.query('alter table grown add column note text')
    const update = () => asTenant(owner, 'acme', (c) => c.query("update grown set note = 'x'"))
    expect((await failure(update())).code).toBe('42501')
    const report = await protect(owner, 'grown')
    expect(report.steps.map(({ statement }) => statement)).toEqual([
      'grant update (note) on public.grown to rowhouse_app',
      "select rowhouse.register_table('public.grown', 'tenant_id')",
    ])
    await update()
  })

  test.each([
    ['row-level security', 'alter table mended disable row level security'],
    ['forcing it', 'alter table mended no force row level security'],
    ['a policy', 'drop policy rowhouse_tenant on mended'],
    ['the wall', 'drop policy rowhouse_isolation on mended'],
    ['the condition of a policy', 'alter policy rowhouse_isolation on mended using (true)'],
    ['the check of a policy', 'alter policy rowhouse_tenant on mended with check (true)'],
    ['the roles of a policy', 'alter policy rowhouse_isolation on mended to rowhouse_admin'],
    ['the write guard', 'drop trigger rowhouse_guard on mended'],
    ['the write guard, disabled', 'alter table mended disable trigger rowhouse_guard'],
    ['the default', 'alter table mended alter column tenant_id drop default'],
    ['NOT NULL', 'alter table mended alter column tenant_id drop not null'],
    [
      'a check that an interrupted plan left',
      'alter table mended add constraint rowhouse_tenant_present check (tenant_id is not null)',
    ],
    ['the index', 'drop index mended_tenant_id_idx'],
    ['a privilege that was lost', 'revoke insert on mended from rowhouse_app'],
    ['a privilege too many', 'grant truncate on mended to rowhouse_app'],
    ['the tenant that must not change', 'grant update on mended to rowhouse_app'],
    ['the tenant that must not change, alone', 'grant update (tenant_id) on mended to rowhouse_app'],
    ['what erasure needs', 'revoke delete on mended from rowhouse_owner'],
  ])('mends %s', async (_what, damage) => {
    await owner.query('create table if not exists mended (tenant_id text, v integer)')
    await protect(owner, 'mended')
    const before = await describeSchema(owner, 'public')
    await owner.query(damage)
    expect(await describeSchema(owner, 'public')).not.toEqual(before)
    expect((await protect(owner, 'mended')).steps.length).toBeGreaterThan(0)
    expect(await describeSchema(owner, 'public')).toEqual(before)
    expect((await protect(owner, 'mended')).steps).toEqual([])
  })

  test('drops the remains of a concurrent index build that failed', async () => {
    await owner.query(
      `create table remains (tenant_id text, v integer); insert into remains values ('acme', 1), ('acme', 1)`,
    )
    // A unique index that cannot be built stays behind, invalid.
    expect(
      (await failure(owner.query('create unique index concurrently remains_bad on remains (tenant_id)'))).code,
    ).toBe('23505')
    const report = await protect(owner, 'remains')
    expect(report.steps.map(({ statement }) => statement)).toContain('drop index public.remains_bad')
    expect((await protect(owner, 'remains')).steps).toEqual([])
  })
})

describe('refuses', () => {
  const refused = async (sql: string, table: string, options = {}) => {
    await owner.query(sql)
    return failure(protect(owner, table, options))
  }

  test.each([
    ['a view', 'create view r_view as select 1 as tenant_id', 'r_view', /is a view/],
    ['a materialized view', 'create materialized view r_matview as select 1 as tenant_id', 'r_matview', /materialized/],
    ['a sequence', 'create sequence r_sequence', 'r_sequence', /is a sequence/],
    ['a temporary table', 'create temp table r_temp (tenant_id text)', 'r_temp', /temporary/],
    ['a registry of its own', 'select 1', 'rowhouse.tenants', /registry/],
    [
      'a child table',
      'create table r_parent (tenant_id text); create table r_child () inherits (r_parent)',
      'r_child',
      /inherits from another/,
    ],
    ['its parent', 'select 1', 'r_parent', /other tables inherit/],
    [
      'a partition',
      'create table r_list (tenant_id text) partition by list (tenant_id); create table r_list_a partition of r_list default',
      'r_list_a',
      /is a partition/,
    ],
  ])('%s', async (_what, sql, table, message) => {
    const error = await refused(sql, table)
    expect(error.message).toMatch(message)
    expect(error.code).toBe('RH010')
  })

  test.each(['numeric', 'jsonb', 'boolean', 'text[]', 'char(36)', 'name', 'smallint'])(
    'a tenant column of type %s',
    async (type) => {
      const error = await refused(`create table "r ${type}" (tenant_id ${type})`, `"r ${type}"`)
      expect(error).toMatchObject({ code: 'RH010', hint: expect.stringContaining('text') })
    },
  )

  test('a tenant column whose collation takes acme for ACME', async () => {
    await owner.query(
      "create collation if not exists caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
    )
    const error = await refused('create table r_collation (tenant_id text collate caseless)', 'r_collation')
    expect(error).toMatchObject({ code: 'RH010', message: expect.stringContaining('collation') })
  })

  test.each([
    ['generated', `tenant_id text generated always as ('x') stored`],
    ['an identity', 'tenant_id bigint generated always as identity'],
  ])('a tenant column that is %s', async (what, column) => {
    const error = await refused(`create table "r ${what}" (${column})`, `"r ${what}"`)
    expect(error).toMatchObject({ code: 'RH010', message: expect.stringContaining('gets its value from Postgres') })
  })

  test('rows without a tenant, of an unknown tenant, of an erased one, and ids that are none', async () => {
    await owner.query(`create table r_rows (v integer); insert into r_rows values (1);
      create table r_nulls (tenant_id text, v integer); insert into r_nulls values (null, 1), ('acme', 1);
      create table r_ids (tenant_id text, v integer); insert into r_ids values ('not an id', 1), ('', 2);
      create table r_number (tenant_id integer); insert into r_number values (null)`)
    expect(await failure(protect(owner, 'r_rows'))).toMatchObject({
      code: 'RH010',
      message: 'public.r_rows has rows and no column tenant_id',
    })
    expect(await failure(protect(owner, 'r_nulls'))).toMatchObject({
      code: 'RH010',
      message: expect.stringContaining('1 rows without a tenant'),
    })
    expect(await failure(protect(owner, 'r_ids'))).toMatchObject({
      code: 'RH010',
      message: expect.stringContaining('2 rows whose tenant_id is no tenant id'),
    })
    expect(await failure(protect(owner, 'r_rows', { existingRows: 'nobody' }))).toMatchObject({ code: 'RH002' })
    expect(await failure(protect(owner, 'r_rows', { existingRows: 'gone' }))).toMatchObject({ code: 'RH004' })
    expect(await failure(protect(owner, 'r_rows', { existingRows: 'no id' }))).toMatchObject({ code: 'RH006' })
    expect(await failure(protect(owner, 'r_number', { existingRows: 'acme' }))).toMatchObject({
      code: 'RH010',
      message: expect.stringContaining('is no value'),
    })
    // A suspended tenant keeps its rows.
    await protect(owner, 'r_rows', { existingRows: 'globex' })
  })

  test('somebody who does not own the table', async () => {
    await owner.query('create table r_owner (tenant_id text)')
    const operator = await database.connect('operator')
    const error = await failure(protect(operator, 'public.r_owner'))
    if (!database.engine.realRoles) return
    expect(error).toMatchObject({ code: '42501', message: 'must be owner of table public.r_owner' })
    const app = await database.connect('app')
    expect((await failure(protect(app, 'public.r_owner'))).code).toBe('42501')
  })

  test('nothing that it did before it failed remains', async () => {
    await owner.query(`create table r_half (tenant_id text, v integer); insert into r_half values ('acme', 1);
      alter table r_half add constraint rowhouse_tenant_present check (v > 1) not valid`)
    const before = await describeSchema(owner, 'public')
    expect((await failure(protect(owner, 'r_half'))).code).toBe('23514')
    expect(await describeSchema(owner, 'public')).toEqual(before)
  })
})
