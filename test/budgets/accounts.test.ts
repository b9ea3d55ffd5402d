// How a tenant is billed: settings change one by one, and no change of them is a new budget.
import { beforeAll, describe, expect, test } from 'vitest'
import type { Rowhouse } from '../../src/index.ts'
import { provision, rowhouseFor } from '../rate-limits/support.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { openSessions, waitUntilBlocked } from '../setup/sessions.ts'
import { asRowhouseOwner, errorOf, setLimits, setPrices, standing } from './support.ts'

const database = useDatabase()
const open = rowhouseFor(database)
let rowhouse: Rowhouse
let tenants = 0
beforeAll(async () => {
  rowhouse = open()
  await setPrices(rowhouse)
  await rowhouse.prices.set('small', { inputTokens: 1 })
})

async function tenantWith(limits: Readonly<Record<string, number>> = {}) {
  const tenant = `account-${tenants++}`
  await provision(database, tenant)
  await setLimits(rowhouse, tenant, limits)
  const { budget, usage } = rowhouse.tenant(tenant)
  return { tenant, budget, usage, money: () => standing(rowhouse, tenant, 'money_per_month') }
}

const accountOf = async (tenant: string) =>
  (
    await rowhouse.query(tenant, (db) =>
      db
        .selectFrom('rowhouse.accounts' as never)
        .select(['currency', 'time_zone', 'models'] as never[])
        .where('tenant_id' as never, '=', tenant as never),
    )
  )[0]

describe('settings of an account', () => {
  test('that are left out stay, null goes back to the default', async () => {
    const { tenant, budget } = await tenantWith()
    const { quotas } = rowhouse
    await quotas.setAccount(tenant, { currency: 'EUR', timeZone: 'Europe/Berlin', models: ['small'] })
    await quotas.setAccount(tenant, {})
    expect(await accountOf(tenant)).toEqual({ currency: 'EUR', time_zone: 'Europe/Berlin', models: ['small'] })
    await quotas.setAccount(tenant, { models: ['small', 'medium'] })
    await quotas.setAccount(tenant, { timeZone: 'Asia/Tokyo' })
    expect(await accountOf(tenant)).toEqual({ currency: 'EUR', time_zone: 'Asia/Tokyo', models: ['small', 'medium'] })
    expect((await errorOf(budget.admit({ model: 'large' }))).code).toBe('model_not_allowed')
    await quotas.setAccount(tenant, { currency: null, timeZone: null })
    expect(await accountOf(tenant)).toEqual({ currency: 'USD', time_zone: 'UTC', models: ['small', 'medium'] })
    await quotas.setAccount(tenant, { models: null })
    expect(await accountOf(tenant)).toEqual({ currency: 'USD', time_zone: 'UTC', models: null })
    await budget.admit({ model: 'large' })
  })

  test('have no null among the models, which would allow every model', async () => {
    const { tenant, budget } = await tenantWith()
    const models = ['small', null] as never
    expect((await errorOf(rowhouse.quotas.setAccount(tenant, { models }))).code).toBe('invalid_quota')
    expect((await errorOf(rowhouse.quotas.setTierModels('narrow', models))).code).toBe('invalid_quota')
    await rowhouse.quotas.setAccount(tenant, { models: ['small'] })
    expect((await errorOf(budget.admit({ model: 'large' }))).code).toBe('model_not_allowed')
    // The control: with a null in the list it would be admitted.
    await asRowhouseOwner(
      database,
      tenant,
      `update rowhouse.accounts set models = '{small,null}' where tenant_id = $1`,
      [tenant],
    )
    await budget.admit({ model: 'large' })
  })
})

/** A zone in which the month began at another moment than in UTC. */
const ELSEWHERE = 'Asia/Kolkata'

describe('another time zone', () => {
  test('is no new budget, there and back; what calls at work hold comes along', async () => {
    const { tenant, budget, usage, money } = await tenantWith({ money_per_month: 10 })
    await usage.record('used', { money: 6 })
    const { requestId } = await budget.admit({ units: { money: 3 }, rateLimit: null })
    expect(await money()).toEqual([6, 3, 1])
    for (const timeZone of [ELSEWHERE, 'UTC', 'America/Los_Angeles', ELSEWHERE, 'UTC', ELSEWHERE]) {
      await rowhouse.quotas.setAccount(tenant, { timeZone })
      expect(await money(), timeZone).toEqual([6, 3, 1])
      expect((await errorOf(budget.admit({ units: { money: 2 } }))).code).toBe('budget_exceeded')
      expect(await usage.reconcile()).toEqual([])
    }
    await budget.settle(requestId, { money: 2 })
    expect(await money()).toEqual([8, 0, 2])
    await rowhouse.quotas.setAccount(tenant, { timeZone: null })
    expect(await money()).toEqual([8, 0, 2])
    await usage.record('over', { money: 5 })
    await rowhouse.quotas.setAccount(tenant, { timeZone: ELSEWHERE })
    expect(await money()).toEqual([10, 0, 0])
    await budget.settle((await budget.admit({ rateLimit: null })).requestId, {})
    expect(await usage.reconcile()).toEqual([])
  })

  test('takes along a call that is settled after its lease', async () => {
    const { tenant, budget, usage, money } = await tenantWith({ money_per_month: 10 })
    const { requestId } = await budget.admit({ units: { money: 3 }, rateLimit: null })
    await budget.release(requestId)
    await rowhouse.quotas.setAccount(tenant, { timeZone: ELSEWHERE })
    await budget.settle(requestId, { money: 4 })
    expect(await money()).toEqual([4, 0, 6])
    expect(await usage.reconcile()).toEqual([])
  })
})

describe('another currency', () => {
  test('waits for a call that is being admitted, and is refused', needs('parallelBackends'), async () => {
    const { tenant, budget } = await tenantWith()
    const { caller, operator } = await openSessions(database, { caller: 'app', operator: 'operator' })
    await caller.run(`begin; set local role rowhouse_app; set local app.tenant_id = '${tenant}'`)
    await caller.run(`select rowhouse.admit('first', '{"money": 5}', p_rate_limit => null)`)
    await operator.run('set role rowhouse_admin')
    const change = operator.client.query(`select rowhouse.set_account('${tenant}', 'EUR')`).then(
      () => 'changed',
      (error: { code: string }) => error.code,
    )
    await waitUntilBlocked(operator)
    await caller.run('commit')
    expect(await change).toBe('RH051')
    expect(await budget.settle('first', { money: 5 })).toMatchObject({ currency: 'USD' })
  })

  test('is refused while money is counted of which no event tells any more', async () => {
    const { tenant, usage } = await tenantWith()
    await usage.record('old', { money: 1 })
    await asRowhouseOwner(database, tenant, 'delete from rowhouse.usage_events where tenant_id = $1', [tenant])
    const change = () => rowhouse.quotas.setAccount(tenant, { currency: 'EUR' })
    expect((await errorOf(change())).message).toContain('usage in another currency')
    await asRowhouseOwner(database, tenant, 'update rowhouse.quota_counters set settled = 0 where tenant_id = $1', [
      tenant,
    ])
    await change()
  })
})
