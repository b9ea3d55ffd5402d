import { type Command, EXIT_OK, UsageError } from '../../command.ts'
import { confirm } from '../../confirm.ts'
import { timeOption } from '../../option-values.ts'
import { withRowhouse } from '../../with-rowhouse.ts'
import { TENANT_OPTIONS, YES_OPTION } from '../tenant/options.ts'

export const auditPurgeCommand: Command = {
  name: 'audit purge',
  summary: 'Remove old entries from the audit trail of a tenant',
  description:
    'Removes the entries of all segments that were sealed before a time; the chain still verifies, and says how many are\n' +
    'gone. Export them first if they are kept elsewhere.',
  positionals: ['<tenant>'],
  options: {
    ...TENANT_OPTIONS,
    before: { type: 'string', value: 'TIME', description: 'Sealed before then, for example 2026-01-01' },
    yes: YES_OPTION,
  },
  examples: ['rowhouse audit purge acme --before 2026-01-01 --yes'],
  async run(context) {
    const { options, output, positionals } = context
    const tenantId = positionals[0]!
    const before = timeOption(options, 'before')
    if (before === undefined) throw new UsageError('audit purge needs --before.', 'For example: --before 2026-01-01')
    await confirm(context, `This removes the entries of ${tenantId} before ${before.toISOString()} for good.`, tenantId)
    const { removed } = await withRowhouse(context, ({ auditLog }) => auditLog.purge(tenantId, { before }))
    if (options.json === true) output.line(JSON.stringify({ tenantId, removed }))
    else output.line(`${removed} entries of ${tenantId} were removed.`)
    return EXIT_OK
  },
}
