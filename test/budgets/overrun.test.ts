// What was used beyond a limit is told as overrun, of rolling quotas too, and correct books raise no alarm.
import { setTimeout as sleep } from 'node:timers/promises'
import { beforeAll, describe, expect, test } from 'vitest'
import type { Rowhouse } from '../../src/index.ts'
import { provision, rowhouseFor } from '../rate-limits/support.ts'
import { useDatabase } from '../setup/database.ts'
import { differences, setLimits } from './support.ts'

const database = useDatabase()
const open = rowhouseFor(database)
let rowhouse: Rowhouse
let tenants = 0
beforeAll(async () => {
  rowhouse = open()
  await rowhouse.quotas.define('gpu_rolling', { metric: 'gpu', period: 'rolling', windowMs: 60_000 })
})

async function tenantWith(limits: Readonly<Record<string, number>>) {
  const tenant = `overrun-${tenants++}`
  await provision(database, tenant)
  await setLimits(rowhouse, tenant, limits)
  const context = rowhouse.tenant(tenant)
  const stands = async (name: string) => {
    const { used, reserved, overrun, free } = (await context.budget.checkQuotas()).find((one) => one.name === name)!
    return { used, reserved, overrun, free }
  }
  return { tenant, budget: context.budget, usage: context.usage, stands }
}

describe('what was recorded beyond a limit', () => {
  test('becomes settled with the next record after the limit was raised, and nothing is out of balance before', async () => {
    const { tenant, usage, stands } = await tenantWith({ money_per_month: 10 })
    await usage.record('over', { money: 15 })
    expect(await stands('money_per_month')).toEqual({ used: 10, reserved: 0, overrun: 5, free: 0 })
    await rowhouse.quotas.set(tenant, 'money_per_month', { limit: 20 })
    // Costs nothing.
    await usage.record('free', { toolCalls: 1 })
    expect(await usage.reconcile()).toEqual([])
    await usage.record('one', { money: 1 })
    expect(await stands('money_per_month')).toEqual({ used: 16, reserved: 0, overrun: 0, free: 4 })
    expect(await usage.reconcile()).toEqual([])
  })

  test('stays overrun only while calls at work hold the room', async () => {
    const { tenant, budget, usage, stands } = await tenantWith({ money_per_month: 10 })
    const { requestId } = await budget.admit({ units: { money: 8 }, rateLimit: null })
    await usage.record('over', { money: 5 })
    expect(await stands('money_per_month')).toEqual({ used: 2, reserved: 8, overrun: 3, free: 0 })
    await budget.settle(requestId, { money: 1 })
    expect(await stands('money_per_month')).toEqual({ used: 6, reserved: 0, overrun: 0, free: 4 })
    await usage.record('more', { money: 1 })
    expect(await stands('money_per_month')).toEqual({ used: 7, reserved: 0, overrun: 0, free: 3 })
    await rowhouse.quotas.set(tenant, 'money_per_month', { limit: 2 })
    await usage.record('lowered', { money: 1 })
    expect(await stands('money_per_month')).toEqual({ used: 7, reserved: 0, overrun: 1, free: 0 })
    await rowhouse.quotas.set(tenant, 'money_per_month', { limit: null })
    await usage.record('lifted', { money: 1 })
    expect(await stands('money_per_month')).toMatchObject({ used: 9, overrun: 0 })
    expect(await usage.reconcile()).toEqual([])
  })
})

describe('a rolling quota', () => {
  /** Uses 60 of 100 in one sixtieth of the window, and what `end` does in the next one. */
  async function inTwoSixtieths(end: (context: Awaited<ReturnType<typeof tenantWith>>) => Promise<unknown>) {
    const context = await tenantWith({ gpu_rolling: 100 })
    const { requestId } = await context.budget.admit({ units: { gpu: 60 }, rateLimit: null })
    await context.budget.settle(requestId, { gpu: 60 })
    await sleep(1100)
    await end(context)
    return context
  }

  test('counts what passes the sum of its window as overrun', async () => {
    const { tenant, stands } = await inTwoSixtieths(async ({ budget }) => {
      const { requestId } = await budget.admit({ units: { gpu: 40 }, rateLimit: null })
      await budget.settle(requestId, { gpu: 90 })
    })
    expect(await stands('gpu_rolling')).toEqual({ used: 100, reserved: 0, overrun: 50, free: 0 })
    expect(await differences(rowhouse, tenant)).toEqual([])
  })

  test('also when it was recorded', async () => {
    const { usage, stands } = await inTwoSixtieths(({ usage }) => usage.record('over', { gpu: 90 }))
    expect(await stands('gpu_rolling')).toEqual({ used: 100, reserved: 0, overrun: 50, free: 0 })
    expect(await usage.reconcile()).toEqual([])
  })

  test('control: books that pass it without overrun are out of balance', async () => {
    const { tenant } = await inTwoSixtieths(({ usage }) => usage.record('fits', { gpu: 40 }))
    expect(await differences(rowhouse, tenant)).toEqual([])
    const owner = await database.connect('owner')
    await owner.query(`begin; set local role rowhouse_owner; set local app.tenant_id = '${tenant}'`)
    await owner.query(
      `update rowhouse.quota_counters set settled = settled + 30 where tenant_id = $1 and name = 'gpu_rolling' and settled = 40`,
      [tenant],
    )
    await owner.query('commit')
    expect(await differences(rowhouse, tenant)).toContainEqual(
      expect.objectContaining({
        difference: 'the window of a rolling quota passes its allowance',
        counted: '130',
        expected: '100',
      }),
    )
  })
})
