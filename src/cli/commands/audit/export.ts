import { type Command, EXIT_OK } from '../../command.ts'
import { withRowhouse } from '../../with-rowhouse.ts'
import { TENANT_OPTIONS } from '../tenant/options.ts'

export const auditExportCommand: Command = {
  name: 'audit export',
  summary: 'Print the audit trail of a tenant as lines of JSON',
  description: 'Oldest entries first. The login must be a member of rowhouse_app: the trail is read as the tenant.',
  positionals: ['<tenant>'],
  options: {
    'database-url': TENANT_OPTIONS['database-url'],
    placements: TENANT_OPTIONS.placements,
    action: { type: 'string', value: 'NAME', description: 'Only this action, or chat.* for all that begin so' },
    from: { type: 'string', value: 'TIME', description: 'Only entries from then on, for example 2026-01-01' },
    to: { type: 'string', value: 'TIME', description: 'Only entries before then' },
  },
  examples: ['rowhouse audit export acme --from 2026-01-01 > acme.jsonl'],
  async run(context) {
    const { options, output, positionals } = context
    const timeOf = (name: string) => (options[name] === undefined ? undefined : new Date(options[name] as string))
    await withRowhouse(context, async (rowhouse) => {
      const { audit } = rowhouse.tenant(positionals[0]!)
      const action = options.action as string | undefined
      for await (const line of audit.export({ action, from: timeOf('from'), to: timeOf('to') })) {
        output.line(line.trimEnd())
      }
    })
    return EXIT_OK
  },
}
