import { type Command, EXIT_OK } from '../../command.ts'
import { fileOption } from '../../option-values.ts'
import { createProgressBar } from '../../progress-bar.ts'
import { formatTable } from '../../table.ts'
import { withRowhouse } from '../../with-rowhouse.ts'
import { TENANT_OPTIONS } from '../tenant/options.ts'
import { showEntries } from './show-entries.ts'

export const auditSealCommand: Command = {
  name: 'audit seal',
  summary: 'Seal the audit trail of a tenant, or of all',
  description:
    'Puts the entries since the last call into the chain. Run it regularly: until it is sealed, an entry can be removed\n' +
    'without a trace. Keep the digests that it prints elsewhere: each stands for the whole trail up to there.',
  positionals: ['[tenant]'],
  options: {
    ...TENANT_OPTIONS,
    'signing-key': {
      type: 'string',
      value: 'FILE',
      description: 'Sign the digest with this Ed25519 private key (PEM)',
    },
  },
  examples: ['rowhouse audit seal', 'rowhouse audit seal acme --signing-key audit.pem'],
  async run(context) {
    const { options, output, positionals } = context
    const [tenantId] = positionals
    const signingKey = await fileOption(options, 'signing-key')
    const bar = createProgressBar(process.stderr, context)
    const sealOptions = { signingKey, onProgress: bar.shown ? showEntries(bar) : undefined }
    const sealed = await withRowhouse(context, async ({ auditLog }) =>
      tenantId === undefined ? auditLog.seal(sealOptions) : [await auditLog.seal(tenantId, sealOptions)],
    ).finally(bar.end)
    if (options.json === true) output.line(JSON.stringify(sealed, null, 2))
    else if (sealed.length === 0) output.line('There was nothing to seal.')
    else {
      const rows = sealed.map((trail) => [trail.tenantId, trail.sealed, trail.entries, trail.digest])
      for (const line of formatTable(['tenant', 'sealed', 'entries', 'digest'], rows)) output.line(line)
    }
    return EXIT_OK
  },
}
