// Things that go away: seats, stored bytes and documents give room back, once each, and money never does.
import { beforeAll, expect, test } from 'vitest'
import type { Rowhouse, Units } from '../../src/index.ts'
import { provision, rowhouseFor } from '../rate-limits/support.ts'
import { useDatabase } from '../setup/database.ts'
import { errorOf, setLimits, standing } from './support.ts'

const database = useDatabase()
const open = rowhouseFor(database)
let rowhouse: Rowhouse
let tenants = 0
beforeAll(() => {
  rowhouse = open()
})

async function tenantWith(limits: Readonly<Record<string, number>>) {
  const tenant = `give-back-${tenants++}`
  await provision(database, tenant)
  await setLimits(rowhouse, tenant, limits)
  const { budget, usage } = rowhouse.tenant(tenant)
  return { tenant, budget, usage, stands: (name: string) => standing(rowhouse, tenant, name) }
}

const seat = (name: string) => ({ requestId: `seat-${name}`, units: { seats: 1 }, rateLimit: null })

test('a seat that is given back is free again; repeating it changes nothing', async () => {
  const { budget, usage, stands } = await tenantWith({ seats: 2 })
  for (const name of ['ann', 'bob']) await budget.run(seat(name), () => {})
  // The control: a seat that nobody gave back is taken.
  expect((await errorOf(budget.admit(seat('eve')))).code).toBe('quota_exceeded')
  expect(await budget.giveBack('seat-ann', { seats: 1 })).toEqual({ givenBack: { seats: 1 }, duplicate: false })
  expect(await budget.giveBack('seat-ann', { seats: 1 })).toEqual({ givenBack: { seats: 1 }, duplicate: true })
  expect(await stands('seats')).toEqual([1, 0, 1])
  await budget.run(seat('eve'), () => {})
  expect((await errorOf(budget.admit(seat('mallory')))).code).toBe('quota_exceeded')
  expect(await usage.reconcile()).toEqual([])
})

test('many at once, each several times, give back each once', async () => {
  const { budget, usage, stands } = await tenantWith({ stored_bytes: 1e12 })
  await usage.record('upload', { stored_bytes: 1000 })
  await Promise.all(Array.from({ length: 60 }, (_, call) => budget.giveBack(`file-${call % 20}`, { stored_bytes: 30 })))
  expect(await stands('stored_bytes')).toEqual([400, 0, 1e12 - 400])
  expect(await usage.reconcile()).toEqual([])
})

test('never more than was used, which overrun is part of, nor what calls at work hold', async () => {
  const { budget, usage, stands } = await tenantWith({ documents: 10 })
  await usage.record('import', { documents: 12 })
  expect(await budget.giveBack('a', { documents: 1 })).toMatchObject({ givenBack: { documents: 1 } })
  expect(await stands('documents')).toEqual([10, 0, 0])
  await budget.giveBack('b', { documents: 3 })
  const { requestId } = await budget.admit({ units: { documents: 2 }, rateLimit: null })
  expect(await budget.giveBack('c', { documents: 100 })).toEqual({ givenBack: { documents: 8 }, duplicate: false })
  expect(await stands('documents')).toEqual([0, 2, 8])
  expect(await budget.giveBack('d', { documents: 1 })).toEqual({ givenBack: {}, duplicate: false })
  await budget.settle(requestId, { documents: 2 })
  expect(await stands('documents')).toEqual([2, 0, 8])
  expect(await usage.reconcile()).toEqual([])
})

test('in no period but the one that never starts anew, nor in reports of calls', async () => {
  const { tenant, budget, usage, stands } = await tenantWith({ documents: 10 })
  await rowhouse.quotas.define('uploads_per_month', { metric: 'documents', period: 'month' })
  await rowhouse.quotas.set(tenant, 'uploads_per_month', { limit: 100 })
  await usage.record('import', { documents: 4 })
  await budget.giveBack('import', { documents: 4 })
  expect(await stands('documents')).toEqual([0, 0, 10])
  expect(await stands('uploads_per_month')).toEqual([4, 0, 96])
  const lines = await usage.report({ by: [] })
  expect(lines.map(({ events, cost }) => [events, Number(cost)])).toEqual([[1, 0]])
  expect(await usage.reconcile()).toEqual([])
})

test.for<[string, Units, string]>([
  ['money', { money: 1 }, 'invalid_amount'],
  ['tokens', { tokens: 1 }, 'invalid_amount'],
  ['a unit of prices', { inputTokens: 1 }, 'invalid_amount'],
  ['images', { images: 1 }, 'invalid_amount'],
  ['calls', { requests: 1 }, 'invalid_amount'],
  ['slots', { slots: 1 }, 'invalid_amount'],
  ['less than nothing', { seats: -1 }, 'invalid_amount'],
  ['what nothing counts', { elephants: 1 }, 'unknown_quota'],
])('%s can not be given back', async ([, units, code]) => {
  const { budget, usage, stands } = await tenantWith({ money_per_month: 10, tokens_per_day: 10 })
  await usage.record('used', { money: 5, tokens: 5 })
  expect((await errorOf(budget.giveBack('x', units))).code).toBe(code)
  expect(await stands('money_per_month')).toEqual([5, 0, 5])
  expect(await stands('tokens_per_day')).toEqual([5, 0, 5])
})

test('the quotas that come with it limit nothing until they have a limit', async () => {
  const { tenant, budget } = await tenantWith({})
  const names = ['documents', 'requests_per_day', 'requests_per_month', 'seats', 'stored_bytes']
  expect((await budget.checkQuotas()).filter(({ name }) => names.includes(name))).toEqual([])
  for (const name of names) await rowhouse.quotas.set(tenant, name, { limit: 1 })
  await budget.run({ rateLimit: null }, () => {})
  expect(await errorOf(budget.admit({ rateLimit: null }))).toMatchObject({
    message: expect.stringContaining('"requests_per_'),
  })
})
