// What was changed of rowhouse by hand is found, and what an application does with it is no change.
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createRowhouse, type Rowhouse } from '../../src/index.ts'
import { useAppTables } from '../isolation/support/app-tables.ts'
import { useClients } from '../isolation/support/clients.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'

const database = useDatabase()
useAppTables(database)
const clients = useClients(database, 'owner')
let rowhouse: Rowhouse

beforeAll(() => {
  rowhouse = createRowhouse({ connectionString: database.url('owner') })
})
afterAll(() => rowhouse.close())

const LINTS = ['changed_object', 'outdated_schema']
const changes = async () =>
  (await rowhouse.doctor())
    .filter(({ name }) => LINTS.includes(name))
    .map(({ name, object, detail }) => [name, object, detail])

const asOwner = (sql: string) => clients.owner.query(`begin; set local role rowhouse_owner; ${sql}; commit`)

/** What is changed, how, and how it comes back. */
const CHANGES: readonly [object: string, detail: RegExp, make: string, mend: string][] = [
  [
    'function rowhouse.current_tenant()',
    /changed/,
    'alter function rowhouse.current_tenant() volatile',
    'alter function rowhouse.current_tenant() stable',
  ],
  [
    'function rowhouse.known_tables()',
    /changed/,
    `create or replace function rowhouse.known_tables() returns table (name text, read_by_app boolean, reason text)
      language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp as $$ begin end $$`,
    '',
  ],
  [
    'table rowhouse.tenants',
    /changed/,
    'create policy more on rowhouse.tenants for select using (true)',
    'drop policy more on rowhouse.tenants',
  ],
  [
    'table rowhouse.audit_entries',
    /changed/,
    'alter table rowhouse.audit_entries disable trigger rowhouse_guard',
    'alter table rowhouse.audit_entries enable trigger rowhouse_guard',
  ],
  [
    'domain rowhouse.amount',
    /changed/,
    'alter domain rowhouse.amount drop constraint amount_positive',
    'alter domain rowhouse.amount add constraint amount_positive check (value >= 0)',
  ],
  [
    'table rowhouse.api_keys',
    /changed/,
    'alter table rowhouse.api_keys add column plain text',
    'alter table rowhouse.api_keys drop column plain',
  ],
]

test.each(CHANGES.map((change, index) => [change[0], index + 1, change] as const))(
  '%s (%i): 0, 1, 0',
  async (_object, _number, [object, detail, make, mend]) => {
    expect(await changes()).toEqual([])
    const { rows } = await clients.owner.query(
      "select pg_get_functiondef('rowhouse.known_tables()'::regprocedure) as definition",
    )
    await asOwner(make)
    try {
      expect(await changes()).toEqual([['changed_object', object, expect.stringMatching(detail)]])
    } finally {
      await asOwner(mend === '' ? rows[0].definition : mend)
    }
    expect(await changes()).toEqual([])
  },
)

test('an index that is gone, and what migrate does about a file that was not applied', async () => {
  const { rows } = await clients.owner.query(
    `select i.indexrelid::regclass::text as name, pg_get_indexdef(i.indexrelid) as definition from pg_index i
      where i.indrelid = 'rowhouse.usage_events'::regclass and not i.indisprimary and not i.indisunique limit 1`,
  )
  expect(rows).toHaveLength(1)
  await asOwner(`drop index ${rows[0].name}`)
  expect(await changes()).toEqual([['changed_object', `index ${rows[0].name}`, 'is gone']])
  await asOwner(rows[0].definition)
  expect(await changes()).toEqual([])

  await asOwner("update rowhouse.applied_functions set checksum = 'another' where file = 'functions/keys.sql'")
  expect(await changes()).toEqual([['outdated_schema', 'functions/keys.sql', 'was applied in another version']])
  await asOwner('alter function rowhouse.current_tenant() volatile')
  expect(await changes()).toHaveLength(2)
  await rowhouse.migrate()
  expect(await changes()).toEqual([])
})

test('tenants that come, move and go, protected tables and seals are no change', needs('realRoles'), async () => {
  await rowhouse.tenants.provision('large')
  await rowhouse.tenants.promote('large')
  await rowhouse.auditTable('public.invoices')
  await rowhouse.seals.addKey(Buffer.alloc(32, 7))
  await rowhouse.seals.require(true)
  expect(await changes()).toEqual([])
  await rowhouse.seals.require(false)
  await rowhouse.tenants.erase('large')
  expect(await changes()).toEqual([])
})

test('collections that come and go are no change', needs('pgvector'), async () => {
  await clients.owner.query('create extension if not exists vector')
  await rowhouse.collections.create('handbook', { dimensions: 3, metric: 'cosine' })
  expect(await changes()).toEqual([])
  await clients.owner.query("delete from rowhouse.applied_functions where file = 'functions/keys.sql'")
  await rowhouse.migrate()
  await rowhouse.collections.drop('handbook')
  expect(await changes()).toEqual([])
})
