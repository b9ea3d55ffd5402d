import type { DemoStep } from '../demo-run.ts'

/** What each tenant used and what it cost, and that the books balance. */
export const showUsage: DemoStep = async ({ show, rowhouse, database }) => {
  const { roosevelt } = database.tenantIds
  show.section('What it cost')
  const { usage } = rowhouse.tenant(roosevelt)
  await usage.record('scan-1', { money: '0.125' }, { kind: 'tool_call', provider: 'scanner', latencyMs: 2300 })
  await usage.record('scan-1', { money: '0.125' }, { kind: 'tool_call', provider: 'scanner', latencyMs: 2300 })
  const rows: (string | number)[][] = []
  const costs: Record<string, string> = {}
  const differences: unknown[] = []
  for (const id of Object.values(database.tenantIds)) {
    const tenant = rowhouse.tenant(id)
    for (const line of await tenant.usage.report({ by: ['kind'] })) {
      const { kind = '', events, inputTokens, outputTokens, cost, currency, p99Ms } = line
      rows.push([
        id,
        kind,
        events,
        inputTokens + outputTokens,
        `${cost} ${currency}`,
        p99Ms === undefined ? '' : `${p99Ms} ms`,
      ])
      costs[id] = cost
    }
    differences.push(...(await tenant.usage.reconcile()))
  }
  show.table(['tenant', 'kind', 'calls', 'tokens', 'cost', 'p99'], rows)
  show.claim('Exactly what was used, once each, however often it was told', costs, {
    [database.tenantIds.lincoln]: '0.15',
    [roosevelt]: '0.125',
    [database.tenantIds.kennedy]: '1',
  })
  show.claim('Counters, events, prices and reports agree', differences, [])
  show.text('With charts: npx rowhouse usage --html usage.html')
}
