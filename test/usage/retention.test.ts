// Retention of usage: old events go, in small batches; reports, limits and the books stay what they were.
import { beforeAll, expect, test } from 'vitest'
import type { Rowhouse } from '../../src/index.ts'
import { asRowhouseOwner, differences, setLimits, setPrices } from '../budgets/support.ts'
import { provision, rowhouseFor } from '../rate-limits/support.ts'
import { useDatabase } from '../setup/database.ts'

const database = useDatabase()
const open = rowhouseFor(database)
let rowhouse: Rowhouse
const DAY_MS = 86_400_000
beforeAll(async () => {
  rowhouse = open()
  await setPrices(rowhouse)
  await rowhouse.prices.set('old', { inputTokens: 2 }, { validFrom: new Date(Date.now() - 60 * DAY_MS) })
})

/** A tenant with four events of 40 days ago, two of 33 days ago, and three of today. */
async function tenantWithUsage(tenant: string) {
  await provision(database, tenant)
  await setLimits(rowhouse, tenant, { money_per_month: 100, tokens_per_day: 1e9 })
  const { usage } = rowhouse.tenant(tenant)
  const then = new Date(Date.now() - 25 * DAY_MS)
  for (let event = 0; event < 6; event++) {
    await usage.record(
      `old-${event}`,
      { inputTokens: 1000 + event },
      { model: 'old', occurredAt: then, latencyMs: 100 },
    )
  }
  for (let event = 0; event < 3; event++) await usage.record(`new-${event}`, { inputTokens: 500 }, { model: 'old' })
  // As if the days had passed.
  await asRowhouseOwner(
    database,
    tenant,
    `update rowhouse.usage_events set occurred_at = occurred_at - interval '15 days' where request_id < 'new' or request_id in ('old-0', 'old-1', 'old-2', 'old-3');
    update rowhouse.usage_events set occurred_at = now() - interval '33 days' where request_id in ('old-4', 'old-5')`,
  )
  const since = new Date(Math.floor(Date.now() / DAY_MS - 90) * DAY_MS)
  return { usage, report: () => usage.report({ from: since, by: ['day', 'model'] }) }
}

const leaseEnded = (tenant: string, days: number) =>
  asRowhouseOwner(
    database,
    tenant,
    `update rowhouse.reservations set admitted_at = now() - interval '50 days', expires_at = now() - interval '${days} days'`,
  )

const ids = async (tenant: string) =>
  (
    await rowhouse.query(tenant, (db) =>
      db.selectFrom('rowhouse.usage_events').select('request_id').orderBy('request_id'),
    )
  ).map((row) => row.request_id)

test('events go after the retention of the tenant; reports and books stay what they were', async () => {
  const { usage, report } = await tenantWithUsage('kept')
  const before = await report()
  expect(before.reduce((sum, line) => sum + line.events, 0)).toBe(9)
  const quotas = await rowhouse.tenant('kept').budget.checkQuotas()
  // The tier keeps 30 days, which is 32.
  expect(await usage.sweep({ batchSize: 2 })).toBe(6)
  expect(await ids('kept')).toEqual(['new-0', 'new-1', 'new-2'])
  expect(await report()).toEqual(before)
  expect(await usage.reconcile()).toEqual([])
  expect(await differences(rowhouse, 'kept')).toEqual([])
  const standings = (all: typeof quotas) => all.map(({ name, used, free }) => ({ name, used, free }))
  expect(standings(await rowhouse.tenant('kept').budget.checkQuotas())).toEqual(standings(quotas))
  expect(await usage.sweep()).toBe(0)
  await usage.record('new-3', { inputTokens: 1 }, { model: 'old', occurredAt: new Date(Date.now() - 30 * DAY_MS) })
  expect(await usage.reconcile()).toEqual([])
})

test('the books notice events that somebody else deleted', async () => {
  const { usage } = await tenantWithUsage('lost')
  await rowhouse.usage.rollup()
  await asRowhouseOwner(database, 'lost', `delete from rowhouse.usage_events where request_id = 'old-0'`)
  expect((await usage.reconcile()).map(({ book }) => book)).toEqual(expect.arrayContaining(['counters', 'rollups']))
})

test('the settings of the tenant say for how long, and a call at work keeps what came after its admission', async () => {
  const { usage } = await tenantWithUsage('longer')
  await asRowhouseOwner(
    database,
    'longer',
    `update rowhouse.tenants set settings = '{"retentionDays": {"usage": 36}}' where tenant_id = 'longer'`,
  )
  const { requestId } = await rowhouse
    .tenant('longer')
    .budget.admit({ rateLimit: null, units: { inputTokens: 1 }, model: 'old' })
  await asRowhouseOwner(
    database,
    'longer',
    `update rowhouse.reservations set admitted_at = now() - interval '50 days' where request_id = '${requestId}'`,
  )
  expect(await usage.sweep()).toBe(0)
  await rowhouse.tenant('longer').budget.release(requestId)
  // It may be settled for 30 days more, and then not.
  await leaseEnded('longer', 29)
  expect(await usage.sweep()).toBe(0)
  await leaseEnded('longer', 31)
  expect(await usage.sweep()).toBe(4)
  expect(await ids('longer')).toEqual(['new-0', 'new-1', 'new-2', 'old-4', 'old-5'])
})

test('neither does a call that was released or expired, when no other one expires', async () => {
  const { usage } = await tenantWithUsage('released')
  const { budget } = rowhouse.tenant('released')
  const { requestId } = await budget.admit({ rateLimit: null })
  await budget.release(requestId)
  await leaseEnded('released', 31)
  const settled = await budget.admit({ rateLimit: null })
  await budget.settle(settled.requestId, {})
  expect(await usage.sweep()).toBe(6)
})

test('rowhouse.sweep does it for every tenant', async () => {
  await tenantWithUsage('swept')
  const swept = await rowhouse.sweep()
  expect(swept.find(({ tenantId }) => tenantId === 'swept')).toMatchObject({ usageEvents: 6 })
})
