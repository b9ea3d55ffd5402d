// The books of a tenant are its own, can't be written around the functions, and go with the tenant.
import type pg from 'pg'
import { beforeAll, describe, expect, test } from 'vitest'
import type { Rowhouse } from '../../src/index.ts'
import { expectClosed, REFUSED, unlessRefused } from '../isolation/support/expect-closed.ts'
import { rowsInTenant } from '../isolation/support/in-tenant.ts'
import { provision, rowhouseFor } from '../rate-limits/support.ts'
import { useDatabase } from '../setup/database.ts'
import { errorOf, setPrices } from './support.ts'

const database = useDatabase()
const open = rowhouseFor(database)
let rowhouse: Rowhouse
let app: pg.Client
let owner: pg.Client

const CALL = { model: 'large', units: { inputTokens: 1000, outputTokens: 800 } }
beforeAll(async () => {
  await provision(database, 'acme', 'globex', 'leaving')
  app = await database.connect('app')
  owner = await database.connect('owner')
  rowhouse = open()
  await setPrices(rowhouse)
  for (const tenant of ['acme', 'globex', 'leaving']) {
    const { budget } = rowhouse.tenant(tenant)
    await rowhouse.quotas.set(tenant, 'money_per_month', { limit: 1, softLimit: 0.001 })
    await budget.admit({ ...CALL, requestId: 'at work' })
    await budget.admit({ ...CALL, requestId: 'done' })
    await budget.settle('done', CALL.units)
    await rowhouse.usage.rollup()
    await rowhouse.circuits.trip(tenant, { circuit: 'other', reason: 'test' })
  }
})

const asRowhouseOwner = (sql: string) => () => owner.query(`begin; set local role rowhouse_owner; ${sql}; commit`)
const TABLES = [
  'quota_overrides',
  'accounts',
  'quota_counters',
  'quota_events',
  'reservations',
  'usage_events',
  'usage_rollups',
  'circuits',
]

describe.for(TABLES)('%s', (table) => {
  test('a tenant sees its own rows only', async () => {
    expect((await rowsInTenant(app, 'acme', `select from rowhouse.${table}`)).length).toBeGreaterThan(0)
    await expectClosed({
      probe: () => rowsInTenant(app, 'acme', `select * from rowhouse.${table} where tenant_id <> 'acme'`),
      removeProtection: asRowhouseOwner(`alter table rowhouse.${table} disable row level security`),
      restoreProtection: asRowhouseOwner(`alter table rowhouse.${table} enable row level security`),
    })
  })

  test('the application can change nothing but through the functions', async () => {
    await expectClosed({
      probe: () =>
        unlessRefused(REFUSED, () =>
          rowsInTenant(app, 'acme', `update rowhouse.${table} set tenant_id = tenant_id returning tenant_id`),
        ),
      // Triggers write accounts, with the rights of who writes.
      removeProtection: asRowhouseOwner(`grant update on rowhouse.${table}, rowhouse.accounts to rowhouse_app`),
      restoreProtection: asRowhouseOwner(`revoke update on rowhouse.${table}, rowhouse.accounts from rowhouse_app`),
    })
  })
})

test('limits, prices and accounts are for operators', async () => {
  for (const sql of [
    `select rowhouse.set_quota('acme', 'money_per_month', null)`,
    `select rowhouse.set_default_quota('free', 'money_per_month', null)`,
    `select rowhouse.set_account('acme')`,
    `select rowhouse.set_tier_models('free', null)`,
    `select rowhouse.set_price('large', 'input_tokens', 0)`,
    `select rowhouse.trip_circuit('globex', '', 'attack')`,
    `select rowhouse.reset_circuit('acme', '')`,
    `select rowhouse.lock_account()`,
    `select rowhouse.book_quotas('acme', '{money_per_month}', '{2026-11-01}', null, '{1}', '{0}', '{null}')`,
    `select rowhouse.expire_reservations('acme', 'infinity')`,
    `select rowhouse.renew_terms(null)`,
  ]) {
    await expect(rowsInTenant(app, 'acme', sql)).rejects.toMatchObject({ code: REFUSED })
  }
})

test("a tenant can't settle, release or extend another tenant's call, nor learn that it exists", async () => {
  await rowhouse.tenant('globex').budget.admit({ requestId: 'secret', rateLimit: null })
  const { budget } = rowhouse.tenant('acme')
  for (const call of ['settle', 'release', 'extend'] as const) {
    const unknown = await errorOf(call === 'settle' ? budget.settle('no such', {}) : budget[call]('no such'))
    const secret = await errorOf(call === 'settle' ? budget.settle('secret', {}) : budget[call]('secret'))
    expect([secret.code, secret.message]).toEqual([unknown.code, unknown.message])
  }
  await budget.admit({ requestId: 'secret', rateLimit: null })
  expect(await rowhouse.tenant('globex').budget.release('secret')).toBe(true)
})

test('the table itself refuses counters that pass their allowance', async () => {
  await expectClosed({
    probe: async () => {
      await owner.query(`begin; set local role rowhouse_owner; set local app.tenant_id = 'acme'`)
      try {
        const overdraw = `update rowhouse.quota_counters set reserved = 2
          where tenant_id = 'acme' and name = 'money_per_month' returning reserved`
        return await unlessRefused('23514', async () => (await owner.query(overdraw)).rows)
      } finally {
        await owner.query('rollback')
      }
    },
    removeProtection: asRowhouseOwner(
      'alter table rowhouse.quota_counters drop constraint quota_counters_within_allowance',
    ),
    restoreProtection: asRowhouseOwner(`alter table rowhouse.quota_counters
      add constraint quota_counters_within_allowance check (settled + reserved <= allowance)`),
  })
})

test('erasure takes the books of the tenant, and none of others', async () => {
  const { tables } = await rowhouse.tenants.erase('leaving')
  for (const table of TABLES) expect(tables[`rowhouse.${table}`]).toBeGreaterThan(0)
  for (const table of TABLES) {
    expect(await rowsInTenant(app, 'leaving', `select from rowhouse.${table}`)).toEqual([])
    expect((await rowsInTenant(app, 'globex', `select from rowhouse.${table}`)).length).toBeGreaterThan(0)
  }
})

test('a tenant that is promoted keeps its books', async () => {
  await rowhouse.tenants.promote('globex')
  await rowhouse.tenant('globex').budget.settle('at work', { inputTokens: 1 })
  expect(await rowsInTenant(app, 'globex', 'select * from rowhouse.budget_differences()')).toEqual([])
})
