// Charts by the days of the tenant: what a report counts is charted on the day on which it occurred there.
import { expect, test } from 'vitest'
import { usageHtml } from '../../src/usage-report/html-report.ts'
import { usageLines } from '../../src/usage-report/terminal-report.ts'
import { readUsageOverview, spendByModel } from '../../src/usage-report/usage-overview.ts'
import { provision, rowhouseFor } from '../rate-limits/support.ts'
import { useDatabase } from '../setup/database.ts'

const database = useDatabase()
const open = rowhouseFor(database)
const DAY_MS = 86_400_000
const today = Math.floor(Date.now() / DAY_MS) * DAY_MS

test.each([
  'Pacific/Auckland',
  'Pacific/Kiritimati',
  'America/Los_Angeles',
  'Pacific/Pago_Pago',
  'Asia/Kolkata',
  'UTC',
])('%s: by day, by month and by hour', async (timeZone) => {
  const rowhouse = open()
  const tenant = timeZone.replace('/', '-')
  await provision(database, tenant)
  await rowhouse.quotas.setAccount(tenant, { timeZone })
  // In the morning and in the evening of UTC, also on the day with which the span begins.
  const times = [-20.98, -20.2, -10.5, -5.04, -1.3].map((days) => new Date(today + days * DAY_MS))
  for (const [number, occurredAt] of times.entries()) {
    await rowhouse.tenant(tenant).usage.record(`${number}`, { money: 10 ** number }, { occurredAt })
  }
  for (const [days, length] of [
    [21, 10],
    [150, 7],
  ] as const) {
    const overview = await readUsageOverview(rowhouse, { tenantId: tenant, from: new Date(today - days * DAY_MS) })
    const { periods, models, total } = spendByModel(overview, 'USD')
    expect(total).toBe(11_111)
    const expected: Record<string, number> = {}
    for (const [number, time] of times.entries()) {
      const key = time.toLocaleDateString('sv', { timeZone }).slice(0, length)
      expected[key] = (expected[key] ?? 0) + 10 ** number
    }
    expect(
      Object.fromEntries(
        periods.flatMap((key, at) => (models[0]!.costs[at]! > 0 ? [[key, models[0]!.costs[at]!]] : [])),
      ),
    ).toEqual(expected)
    expect(new Set(periods).size).toBe(periods.length)
    expect(periods).toEqual([...periods].sort())
  }
  const hours = {
    tenantId: tenant,
    from: new Date(times[3]!.getTime() - 60_000),
    to: new Date(times[3]!.getTime() + DAY_MS),
  }
  expect(spendByModel(await readUsageOverview(rowhouse, hours), 'USD').total).toBe(1000)
})

test('tokens of no kind, and units of the application, are in the reports', async () => {
  const rowhouse = open()
  await provision(database, 'units')
  await rowhouse.quotas.define('pages', { metric: 'pages', period: 'total' })
  await rowhouse.tenant('units').usage.record('one', { tokens: 1500, pages: 42, money: 1 })
  const overview = await readUsageOverview(rowhouse, { tenantId: 'units' })
  const text = usageLines(overview, { width: 100, style: (_, plain) => plain }).join('\n')
  expect(text).toMatch(/units +\$1\.00 +1 +1\.5K/)
  expect(text).toMatch(/Other units\n {2}pages: 42/)
  const html = usageHtml(overview)
  expect(html).toContain('<dt>tokens</dt><dd>1.5K</dd>')
  expect(html).toMatch(/<th scope="col">pages<\/th>.*<td>42<\/td>/)
})
