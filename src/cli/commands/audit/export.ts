import { type Command, EXIT_OK } from '../../command.ts'
import { textOption, timeOption } from '../../option-values.ts'
import { createProgressBar } from '../../progress-bar.ts'
import { withRowhouse } from '../../with-rowhouse.ts'
import { TENANT_OPTIONS } from '../tenant/options.ts'

export const auditExportCommand: Command = {
  name: 'audit export',
  summary: 'Print the audit trail of a tenant as lines of JSON',
  description: 'Oldest entries first. The login must be a member of rowhouse_app: the trail is read as the tenant.',
  positionals: ['<tenant>'],
  options: {
    'database-url': TENANT_OPTIONS['database-url'],
    json: { type: 'boolean', description: 'Lines of JSON, which it prints anyway' },
    placements: TENANT_OPTIONS.placements,
    action: { type: 'string', value: 'NAME', description: 'Only this action, or chat.* for all that begin so' },
    from: { type: 'string', value: 'TIME', description: 'Only entries from then on, for example 2026-01-01' },
    to: { type: 'string', value: 'TIME', description: 'Only entries before then' },
  },
  examples: ['rowhouse audit export acme --from 2026-01-01 > acme.jsonl'],
  async run(context) {
    const { options, output, positionals } = context
    const action = textOption(options, 'action')
    const span = { from: timeOption(options, 'from'), to: timeOption(options, 'to') }
    // The lines themselves show how far it is, where they go to the terminal.
    const bar = process.stdout.isTTY ? undefined : createProgressBar(process.stderr, context)
    let entries = 0
    await withRowhouse(context, async (rowhouse) => {
      const { audit } = rowhouse.tenant(positionals[0]!)
      for await (const line of audit.export({ action, ...span })) {
        output.line(line.trimEnd())
        bar?.update({ table: positionals[0]!, rows: ++entries, unit: 'entries' })
      }
    }).finally(() => bar?.end())
    return EXIT_OK
  },
}
