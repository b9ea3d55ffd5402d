// The authorization matrix: role x object x privilege, compared with a manifest that is checked in and that people read.
// A privilege more or less, on any object of rowhouse, shows as a difference.
import { expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { useClients } from './support/clients.ts'
import { expectClosed } from './support/expect-closed.ts'
import { privilegeManifest } from './support/privilege-manifest.ts'
import { reachableRelations } from './support/reachable-relations.ts'

const database = useDatabase()
const clients = useClients(database, 'owner')

test('privileges are those of the manifest', async () => {
  await expect(await privilegeManifest(clients.owner)).toMatchFileSnapshot('privileges.txt')
})

const asRowhouseOwner = (sql: string) => clients.owner.query(`begin; set local role rowhouse_owner; ${sql}; commit`)

test.each([
  [
    'a table',
    'grant select on rowhouse.erasures to rowhouse_app',
    'revoke select on rowhouse.erasures from rowhouse_app',
  ],
  [
    'a column',
    'grant select (lock_key) on rowhouse.tenants to rowhouse_app',
    'revoke select (lock_key) on rowhouse.tenants from rowhouse_app',
  ],
  [
    'a right to grant',
    'grant select on rowhouse.collections to rowhouse_app with grant option',
    'revoke grant option for select on rowhouse.collections from rowhouse_app',
  ],
  [
    'a function',
    'grant execute on function rowhouse.suspend_tenant(text, text) to public',
    'revoke execute on function rowhouse.suspend_tenant(text, text) from public',
  ],
  [
    'a schema',
    'grant usage on schema rowhouse_partitions to rowhouse_app',
    'revoke usage on schema rowhouse_partitions from rowhouse_app',
  ],
  ['the right to create', 'grant create on schema rowhouse to public', 'revoke create on schema rowhouse from public'],
  [
    'what is created later',
    'alter default privileges grant select on tables to rowhouse_app',
    'alter default privileges revoke select on tables from rowhouse_app',
  ],
  [
    'a new function',
    'create function rowhouse.fresh() returns int language sql return 1; grant execute on function rowhouse.fresh() to rowhouse_app',
    'drop function rowhouse.fresh()',
  ],
  [
    'a new sequence',
    'create sequence rowhouse.fresh; grant usage on sequence rowhouse.fresh to rowhouse_admin',
    'drop sequence rowhouse.fresh',
  ],
])('a difference shows: %s', async (_what, grant, revoke) => {
  const before = await privilegeManifest(clients.owner)
  await expectClosed({
    probe: async () => differences(before, await privilegeManifest(clients.owner)),
    removeProtection: () => asRowhouseOwner(grant),
    restoreProtection: () => asRowhouseOwner(revoke),
  })
})

const differences = (before: string, after: string) => {
  const known = new Set(before.split('\n'))
  return after.split('\n').filter((line) => !known.has(line))
}

test('what the manifest grants is what the roles have: no membership adds to it', async () => {
  for (const [role, expected] of [
    ['rowhouse_app', []],
    ['rowhouse_admin', []],
  ] as const) {
    const { rows } = await clients.owner.query(
      'select roleid::regrole::text as role from pg_auth_members where member = $1::regrole',
      [role],
    )
    expect(rows).toEqual(expected)
  }
  // Nothing outside of rowhouse either, before the application's tables are protected.
  const beyond = (await reachableRelations(clients.owner)).filter(({ schema }) => schema !== 'rowhouse')
  expect(beyond).toEqual([])
})

test('neither role can do more than its privileges say', async () => {
  const { rows } = await clients.owner.query(
    `select rolname, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication
      from pg_roles where rolname in ('rowhouse_app', 'rowhouse_admin', 'rowhouse_owner') order by 1`,
  )
  expect(rows).toHaveLength(3)
  for (const { rolname, ...attributes } of rows) {
    expect(Object.values(attributes), rolname).toEqual([false, false, false, false, false, false])
  }
})
