// A suspended tenant is billed for what it used, and operators change its limits; nothing else is let in.
import { randomBytes } from 'node:crypto'
import { sql } from 'kysely'
import { beforeAll, describe, expect, test } from 'vitest'
import type { Rowhouse } from '../../src/index.ts'
import { errorOf, setLimits, setPrices } from '../budgets/support.ts'
import { rowsInTenant } from '../isolation/support/in-tenant.ts'
import { provision, rowhouseFor } from '../rate-limits/support.ts'
import { useDatabase } from '../setup/database.ts'

const database = useDatabase({ needs: ['superuser'] })
const open = rowhouseFor(database)
let rowhouse: Rowhouse
let tenants = 0
beforeAll(async () => {
  rowhouse = open()
  await setPrices(rowhouse)
})

async function newTenant() {
  const tenant = `billed-${tenants++}`
  await provision(database, tenant)
  await setLimits(rowhouse, tenant, { money_per_month: 10 })
  const { usage, budget } = rowhouse.tenant(tenant, { userId: 'u_1' })
  await usage.record('before', { money: 4 })
  return { tenant, usage, budget }
}

/** What an operator may do to the limits of a tenant. */
const CHANGES: Readonly<Record<string, (tenant: string) => Promise<void>>> = {
  'quotas.set': (tenant) => rowhouse.quotas.set(tenant, 'money_per_month', { limit: 1 }),
  'quotas.set to null': (tenant) => rowhouse.quotas.set(tenant, 'money_per_month', null),
  'quotas.setAccount': (tenant) => rowhouse.quotas.setAccount(tenant, { models: ['small'] }),
  'rateLimits.set': (tenant) => rowhouse.rateLimits.set(tenant, 'requests', [{ limit: 5, windowMs: 60_000 }]),
  'circuits.trip': (tenant) => rowhouse.circuits.trip(tenant, { reason: 'runaway' }),
  'circuits.reset': (tenant) => rowhouse.circuits.reset(tenant),
}

describe.each(['suspend', 'deactivate'] as const)('%s', (change) => {
  const refused = change === 'suspend' ? 'tenant_suspended' : 'tenant_inactive'

  test('its usage is recorded, reported, exported, reconciled and rolled up', async () => {
    const { tenant, usage, budget } = await newTenant()
    await rowhouse.tenants[change](tenant)
    expect(await usage.record('late', { money: '2.5' })).toMatchObject({ cost: '2.5', duplicate: false })
    expect((await usage.report({ by: [] }))[0]).toMatchObject({ events: 2, cost: '6.5' })
    expect(await usage.reconcile()).toEqual([])
    expect(await Array.fromAsync(usage.export('cloudevents'))).toHaveLength(2)
    const quota = (await budget.checkQuotas()).find(({ name }) => name === 'money_per_month')
    expect(quota).toMatchObject({ used: 6.5, free: 3.5 })
    const lines = await rowhouse.usage.byTenant()
    expect(lines.filter(({ tenantId }) => tenantId === tenant)).toMatchObject([{ cost: '6.5' }])
    expect(await rowhouse.usage.rollup()).toBeGreaterThan(0)
    const superuser = await database.connect('superuser')
    const { rows } = await superuser.query(
      'select sum(cost)::float8 as cost from rowhouse.usage_rollups where tenant_id = $1',
      [tenant],
    )
    expect(rows).toEqual([{ cost: 6.5 }])
    expect(await usage.reconcile()).toEqual([])
  })

  test.each(Object.keys(CHANGES))('an operator may call %s, which is in the audit trail', async (name) => {
    const { tenant } = await newTenant()
    await rowhouse.tenants[change](tenant)
    await CHANGES[name]!(tenant)
    await rowhouse.tenants.resume(tenant)
    const actions = (await rowhouse.tenant(tenant).audit.query({})).map(({ action }) => action)
    expect(actions.some((action) => /quota\.|account\.|rate_limit\.|circuit\./.test(action))).toBe(true)
    if (name === 'quotas.set') {
      const { budget } = rowhouse.tenant(tenant)
      expect((await errorOf(budget.admit({ units: { money: 1 } }))).code).toBe('budget_exceeded')
    }
  })

  test('nothing else is let in', async () => {
    const { tenant, usage, budget } = await newTenant()
    await rowhouse.tenants[change](tenant)
    for (const work of [
      () => budget.admit(),
      () => usage.sweep(),
      () => rowhouse.query(tenant, (db) => db.selectFrom('rowhouse.usage_events').selectAll()),
      () => rowhouse.withTenant(tenant, (_, { usage }) => usage.report()),
      () => rowhouse.withTenant(tenant, (_, { usage }) => usage.record('x', { money: 1 })),
      () => rowhouse.tenant(tenant).state.set('k', 1),
      () => rowhouse.tenant(tenant).state.get('k'),
      () => rowhouse.tenant(tenant).documents('c').count(),
    ]) {
      expect((await errorOf(Promise.resolve().then(work))).code).toBe(refused)
    }
    // Nor does a transaction of the application that says it settles write anything but usage.
    const app = await database.connect('app')
    for (const write of [
      "insert into rowhouse.state (key, value) values ('k', '1')",
      'update rowhouse.quota_overrides set hard_limit = null',
      "select rowhouse.set_quota(rowhouse.current_tenant(), 'money_per_month', null)",
      'select rowhouse.work_for_operator(rowhouse.current_tenant())',
      'select rowhouse.sweep_usage_events()',
    ]) {
      await expect(
        rowsInTenant(app, tenant, `set local rowhouse.settles = 'on'; select rowhouse.enter_tenant(); ${write}`),
      ).rejects.toMatchObject({ code: expect.stringMatching(/RH003|RH004|42501/) })
    }
  })
})

test('the control: a write of an operator that asks for active tenants alone is refused', async () => {
  const { tenant } = await newTenant()
  await rowhouse.tenants.suspend(tenant)
  const superuser = await database.connect('superuser')
  const { rows } = await superuser.query<{ source: string }>(
    "select pg_get_functiondef('rowhouse.work_for_operator(text)'::regprocedure::oid) as source",
  )
  const { source } = rows[0]!
  await superuser.query(source.replace('{active,suspended,inactive}', '{active}'))
  try {
    for (const name of ['quotas.set', 'rateLimits.set', 'circuits.trip']) {
      expect((await errorOf(CHANGES[name]!(tenant))).code).toBe('tenant_suspended')
    }
  } finally {
    await superuser.query(source)
  }
})

test('a tenant that is erased, or that never was, has no books and no limits', async () => {
  const { tenant, usage, budget } = await newTenant()
  await rowhouse.tenants.erase(tenant)
  for (const work of [
    () => usage.report(),
    () => usage.record('x', {}),
    () => usage.reconcile(),
    () => budget.checkQuotas(),
  ]) {
    expect((await errorOf(work())).code).toBe('tenant_inactive')
  }
  for (const change of Object.values(CHANGES)) {
    expect((await errorOf(change(tenant))).code).toBe('tenant_inactive')
    expect((await errorOf(change('never'))).code).toBe('tenant_not_found')
  }
  expect((await rowhouse.usage.byTenant()).map(({ tenantId }) => tenantId)).not.toContain(tenant)
})

test.each(['erasing', 'moving', 'importing'])(
  'while a tenant is %s, nobody books and nobody changes limits',
  async (status) => {
    const { tenant, usage } = await newTenant()
    const superuser = await database.connect('superuser')
    await superuser.query('alter table rowhouse.tenants disable trigger user')
    await superuser.query(
      `update rowhouse.tenants set status = $1, placement = case when $1 = 'moving' then 'other' end where tenant_id = $2`,
      [status, tenant],
    )
    await superuser.query('alter table rowhouse.tenants enable trigger user')
    const code = status === 'erasing' ? 'tenant_inactive' : expect.stringMatching(/moving|moved/)
    expect((await errorOf(usage.record('x', { money: 1 }))).code).toEqual(code)
    expect((await errorOf(usage.report())).code).toEqual(code)
    for (const change of Object.values(CHANGES)) expect((await errorOf(change(tenant))).code).toEqual(code)
  },
)

test('with sealed contexts too', async () => {
  const { tenant } = await newTenant()
  const key = randomBytes(32)
  const { seals } = open({
    connectionString: database.url('owner'),
    admin: { connectionString: database.url('owner') },
  })
  await seals.addKey(key)
  const sealed = open({ seal: key })
  await seals.require(true)
  try {
    await sealed.tenants.suspend(tenant)
    const { usage, budget } = sealed.tenant(tenant)
    await usage.record('late', { money: 1 })
    expect((await usage.report({ by: [] }))[0]).toMatchObject({ cost: '5' })
    expect(await usage.reconcile()).toEqual([])
    expect((await budget.checkQuotas()).length).toBeGreaterThan(0)
    for (const change of Object.values(CHANGES)) await change(tenant)
    expect((await errorOf(sealed.query(tenant, () => sql`select 1`))).code).toBe('tenant_suspended')
  } finally {
    await seals.require(false)
  }
})
