// Two tenants keep values and locks under the same keys. Whatever one of them tries, nothing of the other comes back or
// changes; each probe is shown to leak once the policies are gone.
import type pg from 'pg'
import { beforeAll, describe, expect, test } from 'vitest'
import { expectClosed } from '../isolation/support/expect-closed.ts'
import { rowsInTenant } from '../isolation/support/in-tenant.ts'
import { ACME, GLOBEX, provision, useSessions } from '../sessions/fixture.ts'
import { useDatabase } from '../setup/database.ts'

const database = useDatabase()
const fixture = useSessions(database)
let owner: pg.Client
let app: pg.Client

beforeAll(async () => {
  owner = await database.connect('owner')
  app = await database.connect('app')
  for (const tenantId of [ACME, GLOBEX]) {
    const { state, locks } = fixture.rowhouse.tenant(tenantId)
    await state.set('shared', `canary:${tenantId}`)
    await state.set(`only-${tenantId}`, 1, { ttlMs: 60_000 })
    await locks.acquire('shared', { leaseMs: 60_000 })
    await locks.acquire(`only-${tenantId}`, { leaseMs: 60_000 })
  }
})

const protection = (state: 'disable' | 'enable') => async () => {
  await owner.query(`begin; set local role rowhouse_owner;
    alter table rowhouse.state ${state} row level security;
    alter table rowhouse.resource_locks ${state} row level security; commit`)
}

const foreignRows = async (sql: string) =>
  (await rowsInTenant(app, ACME, sql)).filter((row) => JSON.stringify(row).includes(GLOBEX))

describe('SQL that forgets the tenant', () => {
  test.for<[string, string]>([
    ['select values', 'select * from rowhouse.state'],
    ['select a value', "select * from rowhouse.state where key = 'shared'"],
    ['update values', "update rowhouse.state set value = '0' returning *"],
    ['delete values', "delete from rowhouse.state where key = 'only-globex' returning *"],
    ['select locks', 'select * from rowhouse.resource_locks'],
    ['take locks', 'update rowhouse.resource_locks set holder = gen_random_uuid() returning *'],
    ['delete locks', 'delete from rowhouse.resource_locks returning *'],
  ])('%s', async ([, sql]) => {
    await expectClosed({
      probe: () => foreignRows(sql),
      removeProtection: protection('disable'),
      restoreProtection: protection('enable'),
    })
  })
})

test('the functions say the tenant in every statement, so they need no policy', async () => {
  await protection('disable')()
  try {
    for (const [call, expected] of [
      ["(select count(*)::int from rowhouse.get_state(array['only-globex']))", 0],
      ["(select count(*)::int from rowhouse.list_state('only-globex'))", 0],
      ["rowhouse.compare_and_set_state('only-globex', '1', '2')", false],
      ["rowhouse.delete_state(array['only-globex'])::int", 0],
      ["rowhouse.clear_state('only-globex')::int", 0],
      ['rowhouse.sweep_state()', 0],
      [
        "rowhouse.release_lock('only-globex', (select holder from rowhouse.resource_locks where name = 'only-globex'))",
        false,
      ],
      [
        "rowhouse.renew_lock('only-globex', (select holder from rowhouse.resource_locks where name = 'only-globex'), interval '1 s')",
        null,
      ],
    ] as const) {
      expect(await rowsInTenant(app, ACME, `select ${call} as result`), call).toEqual([{ result: expected }])
    }
  } finally {
    await protection('enable')()
  }
})

test('without a tenant the functions refuse', async () => {
  for (const call of [
    "get_state(array['x'])",
    "set_state('x', '1')",
    "set_state_if_absent('x', '1')",
    "compare_and_set_state('x', '1', '2')",
    "increment_state('x')",
    "delete_state(array['x'])",
    'list_state()',
    "clear_state('')",
    'sweep_state()',
    "acquire_lock('x', interval '1 s')",
    "renew_lock('x', gen_random_uuid(), interval '1 s')",
    "release_lock('x', gen_random_uuid())",
    "require_lock('x', 1)",
    'sweep_locks()',
  ]) {
    await expect(rowsInTenant(app, null, `select rowhouse.${call}`), call).rejects.toMatchObject({ code: 'RH001' })
  }
})

test('erasure takes values and locks along', async () => {
  await provision(database, 'leaving')
  const { state, locks } = fixture.rowhouse.tenant('leaving')
  await state.set('a', 1)
  await state.set('b', 2)
  await locks.acquire('a')
  const receipt = await fixture.rowhouse.tenants.erase('leaving')
  expect(receipt.tables).toMatchObject({ 'rowhouse.state': 2, 'rowhouse.resource_locks': 1 })
  expect(await fixture.globex.state.get('shared')).toBe(`canary:${GLOBEX}`)
})
