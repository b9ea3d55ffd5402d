// What was used beyond a limit is told as overrun, of rolling quotas too, and correct books raise no alarm.
import { setTimeout as sleep } from 'node:timers/promises'
import { beforeAll, describe, expect, test } from 'vitest'
import type { Rowhouse } from '../../src/index.ts'
import { provision, rowhouseFor } from '../rate-limits/support.ts'
import { useDatabase } from '../setup/database.ts'
import { asRowhouseOwner, differences, errorOf, expire, setLimits } from './support.ts'

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

  const changeCounters = (tenant: string, assignments: string) =>
    asRowhouseOwner(
      database,
      tenant,
      `update rowhouse.quota_counters set ${assignments} where tenant_id = $1 and name = 'gpu_rolling'`,
      [tenant],
    )

  /** A tenant whose calls begin in one sixtieth of the window after another, and a way to the next one. */
  async function inSixtieths(limit: number) {
    const context = await tenantWith({ gpu_rolling: limit })
    const { tenant, budget } = context
    return {
      ...context,
      setLimit: (to: number) => rowhouse.quotas.set(tenant, 'gpu_rolling', { limit: to }),
      admit: async (gpu: number) => (await budget.admit({ units: { gpu }, rateLimit: null })).requestId,
      nextSixtieth: () => sleep(1050 - (Date.now() % 1000)),
    }
  }

  test('counts as overrun what passes a lowered limit, whatever older sixtieths were allowed', async () => {
    const { tenant, budget, stands, setLimit, admit, nextSixtieth } = await inSixtieths(100)
    await budget.settle(await admit(1), { gpu: 1 })
    await setLimit(60)
    await nextSixtieth()
    await budget.settle(await admit(50), { gpu: 50 })
    await nextSixtieth()
    const released = await admit(5)
    await budget.release(released)
    await budget.settle(released, { gpu: 40 })
    expect(await stands('gpu_rolling')).toEqual({ used: 60, reserved: 0, overrun: 31, free: 0 })
    expect(await differences(rowhouse, tenant)).toEqual([])
  })

  test('books what was reserved in the sixtieth before a limit was raised, or lowered', async () => {
    const { tenant, budget, stands, setLimit, admit, nextSixtieth } = await inSixtieths(20)
    const early = await admit(20)
    await setLimit(60)
    await nextSixtieth()
    const late = await admit(40)
    await setLimit(10)
    await budget.settle(early, { gpu: 20 })
    await budget.settle(late, { gpu: 40 })
    expect(await stands('gpu_rolling')).toEqual({ used: 60, reserved: 0, overrun: 0, free: 0 })
    expect(await differences(rowhouse, tenant)).toEqual([])
  })

  test('books what was reserved, though a late settlement had the room of an earlier limit', async () => {
    const { tenant, budget, stands, setLimit, admit, nextSixtieth } = await inSixtieths(100)
    const released = await admit(10)
    await budget.release(released)
    await setLimit(60)
    await nextSixtieth()
    const requestId = await admit(30)
    await budget.settle(released, { gpu: 70 })
    await budget.settle(requestId, { gpu: 30 })
    expect(await stands('gpu_rolling')).toEqual({ used: 100, reserved: 0, overrun: 0, free: 0 })
    expect(await differences(rowhouse, tenant)).toEqual([])
  })

  test('counts now what was recorded by a clock that is ahead', async () => {
    const { tenant, budget, usage, stands } = await inSixtieths(40)
    await usage.record('ahead', { gpu: 40 }, { occurredAt: new Date(Date.now() + 50_000) })
    expect(await stands('gpu_rolling')).toEqual({ used: 40, reserved: 0, overrun: 0, free: 0 })
    expect((await errorOf(budget.admit({ units: { gpu: 1 }, rateLimit: null }))).code).toBe('quota_exceeded')
    expect(await differences(rowhouse, tenant)).toEqual([])
  })

  test('has its limit lowered by a record without less room for what was used before', async () => {
    const { tenant, budget, usage, stands, setLimit, admit, nextSixtieth } = await inSixtieths(60)
    await budget.settle(await admit(50), { gpu: 50 })
    await setLimit(100)
    await nextSixtieth()
    await budget.settle(await admit(50), { gpu: 50 })
    await setLimit(60)
    await usage.record('lowered', { gpu: 1 })
    expect(await stands('gpu_rolling')).toEqual({ used: 100, reserved: 0, overrun: 1, free: 0 })
    expect(await differences(rowhouse, tenant)).toEqual([])
  })

  test('has room for the overrun of one sixtieth, not of each', async () => {
    const { tenant, budget, stands, admit, nextSixtieth } = await inSixtieths(100)
    const calls: string[] = []
    for (const _ of [1, 2]) {
      calls.push(await admit(10))
      const released = await admit(10)
      await budget.release(released)
      calls.push(released)
      await nextSixtieth()
    }
    await budget.settle(calls[1]!, { gpu: 60 })
    await budget.settle(calls[3]!, { gpu: 60 })
    // As if what had the room has left the window.
    await changeCounters(tenant, 'settled = 0, overrun = overrun + settled')
    expect(await stands('gpu_rolling')).toEqual({ used: 0, reserved: 20, overrun: 120, free: 0 })
    for (const requestId of [calls[0]!, calls[2]!]) await expire(database, tenant, requestId)
    await budget.release(await admit(0))
    expect(await stands('gpu_rolling')).toMatchObject({ reserved: 0, free: 0 })
    expect(await differences(rowhouse, tenant)).toEqual([])
  })

  test('control: books that pass it without overrun are out of balance', async () => {
    const { tenant } = await inTwoSixtieths(({ usage }) => usage.record('fits', { gpu: 40 }))
    expect(await differences(rowhouse, tenant)).toEqual([])
    await changeCounters(tenant, 'settled = case settled when 40 then 70 else settled end')
    expect(await differences(rowhouse, tenant)).toContainEqual(
      expect.objectContaining({
        difference: 'the window of a rolling quota passes its allowance',
        counted: '130',
        expected: '100',
      }),
    )
  })
})
