import type { SweptTenant } from '../../sweep/sweep.ts'
import { type Command, EXIT_OK } from '../command.ts'
import { formatTable } from '../table.ts'
import { withRowhouse } from '../with-rowhouse.ts'
import { TENANT_OPTIONS } from './tenant/options.ts'

export const sweepCommand: Command = {
  name: 'sweep',
  summary: 'Remove what expired, of a tenant or of all',
  description:
    'Removes sessions, values, locks and messages of channels that expired, idle counters, old events and jobs, in small\n' +
    'transactions, and brings the rollups of usage up to date. The login must be a member of rowhouse_app and\n' +
    'rowhouse_admin. Run it regularly.',
  positionals: ['[tenant]'],
  options: TENANT_OPTIONS,
  examples: ['rowhouse sweep', 'rowhouse sweep acme --json'],
  async run(context) {
    const { options, output, positionals } = context
    const json = options.json === true
    const swept = await withRowhouse(context, (rowhouse) =>
      rowhouse.sweep({
        tenantId: positionals[0],
        onTenant: (tenant) => {
          if (!json && removed(tenant) > 0) output.note(`${tenant.tenantId}: ${removed(tenant)} removed`)
        },
      }),
    )
    if (json) output.line(JSON.stringify(swept, null, 2))
    else {
      const total = (count: (tenant: SweptTenant) => number) => swept.reduce((sum, tenant) => sum + count(tenant), 0)
      const row = [
        swept.length,
        total(({ sessions }) => sessions),
        total(({ values }) => values),
        total(({ locks }) => locks),
        total(({ channelRows }) => channelRows),
        total(({ rateLimitCounters }) => rateLimitCounters),
        total(({ queueRequests }) => queueRequests),
        total(({ usageHours }) => usageHours),
        total(({ usageEvents }) => usageEvents),
        total(({ events }) => events),
        total(({ jobs }) => jobs),
      ]
      const headers = [
        'tenants',
        'sessions',
        'values',
        'locks',
        'of channels',
        'counters',
        'queued',
        'hours of usage',
        'usage events',
        'events',
        'jobs',
      ]
      for (const line of formatTable(headers, [row])) output.line(line)
    }
    return EXIT_OK
  },
}

function removed({
  sessions,
  values,
  locks,
  channelRows,
  rateLimitCounters,
  queueRequests,
  usageEvents,
  events,
  jobs,
}: SweptTenant): number {
  return sessions + values + locks + channelRows + rateLimitCounters + queueRequests + usageEvents + events + jobs
}
