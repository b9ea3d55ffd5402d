import { writeFile } from 'node:fs/promises'
import type { Rowhouse } from '../../rowhouse.ts'
import { BILLED_STATUSES } from '../../tenants/for-each-tenant.ts'
import type { UsageFormat } from '../../usage/usage-types.ts'
import { usageHtml } from '../../usage-report/html-report.ts'
import { usageLines } from '../../usage-report/terminal-report.ts'
import { readUsageOverview, type UsageOverview } from '../../usage-report/usage-overview.ts'
import { type Command, type CommandContext, EXIT_OK, type OptionValues, UsageError } from '../command.ts'
import { timeOption } from '../option-values.ts'
import { withRowhouse } from '../with-rowhouse.ts'
import { TENANT_OPTIONS } from './tenant/options.ts'

const FORMATS = ['json', 'csv', 'cloudevents', 'html'] as const

export const usageCommand: Command = {
  name: 'usage',
  summary: 'Chart usage and cost of a tenant or of all',
  description:
    'Spend by model over time, latency and quotas of each tenant: in the terminal, or as one HTML file with charts, which\n' +
    'loads nothing. --csv and --cloudevents print every event instead. The login must be a member of rowhouse_app, and of\n' +
    'rowhouse_admin unless --tenant names an active tenant.',
  options: {
    'database-url': TENANT_OPTIONS['database-url'],
    placements: TENANT_OPTIONS.placements,
    tenant: { type: 'string', value: 'ID', description: 'Only this tenant. Default: all, also suspended ones' },
    from: { type: 'string', value: 'TIME', description: 'From then on, for example 2026-01-01. Default: 30 days ago' },
    to: { type: 'string', value: 'TIME', description: 'Until then. Default: now' },
    html: { type: 'string', value: 'FILE', description: 'Write the report to this file' },
    json: { type: 'boolean', description: 'Print the numbers of the report as JSON' },
    csv: { type: 'boolean', description: 'Print every event as CSV' },
    cloudevents: { type: 'boolean', description: 'Print every event as a line of CloudEvents 1.0' },
  },
  examples: [
    'rowhouse usage',
    'rowhouse usage --tenant acme --html usage.html',
    'rowhouse usage --from 2026-11-01 --csv',
  ],
  async run(context) {
    const { options, output } = context
    const format = formatOf(options)
    const span = { from: timeOption(options, 'from'), to: timeOption(options, 'to') }
    if (span.from !== undefined && span.to !== undefined && span.from >= span.to) {
      throw new UsageError('--from is not before --to.', 'For example: --from 2026-11-01 --to 2026-12-01')
    }
    const tenantId = options.tenant as string | undefined
    await withRowhouse(context, async (rowhouse) => {
      if (format === 'csv' || format === 'cloudevents') return printEvents(rowhouse, context, format, tenantId, span)
      const overview = await readUsageOverview(rowhouse, { ...span, tenantId })
      if (format === 'json') output.line(JSON.stringify(overview, null, 2))
      else if (format === 'html') await writeReport(context, overview)
      else for (const line of usageLines(overview, { width: widthOf(context), style: output.style })) output.line(line)
    })
    return EXIT_OK
  },
}

function formatOf(options: OptionValues): (typeof FORMATS)[number] | undefined {
  const [format, another] = FORMATS.filter((name) => options[name] !== undefined)
  if (another !== undefined) throw new UsageError(`Either --${format} or --${another}.`, 'See: rowhouse help usage')
  return format
}

async function printEvents(
  rowhouse: Rowhouse,
  { output }: CommandContext,
  format: UsageFormat,
  tenantId: string | undefined,
  span: { from: Date | undefined; to: Date | undefined },
): Promise<void> {
  const ids =
    tenantId === undefined
      ? (await Array.fromAsync(rowhouse.tenants.all()))
          .filter(({ status }) => BILLED_STATUSES.includes(status))
          .map(({ id }) => id)
      : [tenantId]
  for (const [index, id] of ids.entries()) {
    let isHeader = format === 'csv'
    for await (const line of rowhouse.tenant(id).usage.export(format, span)) {
      if (!isHeader || index === 0) output.line(line)
      isHeader = false
    }
  }
}

async function writeReport({ options, output }: CommandContext, overview: UsageOverview): Promise<void> {
  const file = options.html as string
  try {
    await writeFile(file, usageHtml(overview))
  } catch (error) {
    throw new UsageError(
      `${file} can't be written: ${(error as Error).message}`,
      'Name a file in a folder that exists.',
    )
  }
  output.note(`Wrote ${file}`)
}

function widthOf({ environment }: CommandContext): number {
  return Number(environment.COLUMNS) || process.stdout.columns || 80
}
