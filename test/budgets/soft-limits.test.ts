// Soft limits: told by the settlement that uses one up, once for each period and limit, and kept to be read.
import { setTimeout as sleep } from 'node:timers/promises'
import { beforeAll, expect, test } from 'vitest'
import type { Rowhouse, Settlement } from '../../src/index.ts'
import { provision, rowhouseFor } from '../rate-limits/support.ts'
import { useDatabase } from '../setup/database.ts'
import { asRowhouseOwner, setLimits } from './support.ts'

const database = useDatabase()
const open = rowhouseFor(database)
let rowhouse: Rowhouse
let tenants = 0
beforeAll(async () => {
  rowhouse = open()
  await rowhouse.quotas.define('gpu_rolling', { metric: 'gpu', period: 'rolling', windowMs: 60_000 })
  await rowhouse.quotas.define('gpu_three_seconds', { metric: 'gpu', period: 'rolling', windowMs: 3000 })
})

async function tenantWith(name: string, softLimit: number) {
  const tenant = `soft-${tenants++}`
  await provision(database, tenant)
  await setLimits(rowhouse, tenant, {})
  await rowhouse.quotas.set(tenant, name, { limit: 1000, softLimit })
  const { budget, usage } = rowhouse.tenant(tenant)
  let events = 0
  const record = async (units: object, occurredAt?: Date) =>
    (await usage.record(`event-${events++}`, { ...units }, { occurredAt })).crossed
  return { tenant, budget, record }
}

test('of a rolling quota are told once for its window, not for each sixtieth', async () => {
  const { budget, record } = await tenantWith('gpu_rolling', 10)
  const told = [await record({ gpu: 9 })]
  for (let turn = 0; turn < 3; turn++) {
    told.push(await record({ gpu: 1 }))
    await sleep(1100)
  }
  expect(told).toEqual([[], ['gpu_rolling'], [], []])
  expect(await budget.softLimits()).toMatchObject([{ name: 'gpu_rolling', used: 10, softLimit: 10 }])
})

test('of a rolling quota are told again in a later window', async () => {
  const { record } = await tenantWith('gpu_three_seconds', 10)
  expect(await record({ gpu: 10 })).toEqual(['gpu_three_seconds'])
  await sleep(3200)
  expect(await record({ gpu: 9 })).toEqual([])
  expect(await record({ gpu: 1 })).toEqual(['gpu_three_seconds'])
})

test('of a past period are told', async () => {
  const { budget, record } = await tenantWith('tokens_per_day', 10)
  const yesterday = new Date(Date.now() - 86_400_000)
  expect(await record({ tokens: 9 }, yesterday)).toEqual([])
  expect(await record({ tokens: 9 })).toEqual([])
  expect(await record({ tokens: 1 }, yesterday)).toEqual(['tokens_per_day'])
  expect(await record({ tokens: 1 }, yesterday)).toEqual([])
  expect(await record({ tokens: 1 })).toEqual(['tokens_per_day'])
  expect((await budget.softLimits()).map(({ used }) => used)).toEqual([10, 10])
})

test('are told again after they were raised', async () => {
  const { tenant, budget, record } = await tenantWith('money_per_month', 1)
  expect(await record({ money: 2 })).toEqual(['money_per_month'])
  await rowhouse.quotas.set(tenant, 'money_per_month', { limit: 1000, softLimit: 50 })
  expect(await record({ money: 1 })).toEqual([])
  expect(await record({ money: 60 })).toEqual(['money_per_month'])
  expect(await record({ money: 60 })).toEqual([])
  expect((await budget.softLimits()).map(({ used, softLimit }) => [used, softLimit])).toEqual([
    [63, 50],
    [2, 1],
  ])
})

test('that run uses up are told', async () => {
  const { budget } = await tenantWith('money_per_month', 1)
  const settlements: Settlement[] = []
  const result = await budget.run(
    { units: { money: 5 }, rateLimit: null, onSettled: (settlement) => settlements.push(settlement) },
    () => 'answer',
  )
  expect(result).toBe('answer')
  expect(settlements).toMatchObject([{ cost: '5', crossed: ['money_per_month'], duplicate: false }])
})

test('that were used up long ago are swept when others are; those of quotas that never start anew stay', async () => {
  const { tenant, budget, record } = await tenantWith('money_per_month', 1)
  await rowhouse.quotas.set(tenant, 'seats', { limit: 10, softLimit: 1 })
  await record({ money: 2, seats: 1 })
  await asRowhouseOwner(
    database,
    tenant,
    `update rowhouse.quota_events set crossed_at = crossed_at - interval '401 days' where tenant_id = $1`,
    [tenant],
  )
  expect(await budget.softLimits()).toHaveLength(2)
  await rowhouse.quotas.set(tenant, 'money_per_month', { limit: 1000, softLimit: 3 })
  await record({ money: 2 })
  expect((await budget.softLimits()).map(({ name, softLimit }) => [name, softLimit])).toEqual([
    ['money_per_month', 3],
    ['seats', 1],
  ])
})
