import type { AuditFinding, AuditProgress, VerifiedAudit } from '../../../audit/audit-log.ts'
import { type Command, EXIT_FAILURE, EXIT_OK, UsageError } from '../../command.ts'
import { fileOption, textOption } from '../../option-values.ts'
import { createProgressBar } from '../../progress-bar.ts'
import { formatTable } from '../../table.ts'
import { withRowhouse } from '../../with-rowhouse.ts'
import { TENANT_OPTIONS } from '../tenant/options.ts'
import { showEntries } from './show-entries.ts'

export const auditVerifyCommand: Command = {
  name: 'audit verify',
  summary: 'Verify the audit trail of a tenant, or of all',
  description:
    'Recomputes every digest and compares it with the entries; trails of erased tenants are verified as well. Fails when\n' +
    'an entry was changed, removed, reordered or inserted.',
  positionals: ['[tenant]'],
  options: {
    ...TENANT_OPTIONS,
    anchor: {
      type: 'string',
      value: 'DIGEST',
      description: 'A digest that was kept elsewhere; it must be in the chain',
    },
    'public-key': { type: 'string', value: 'FILE', description: 'The Ed25519 public key (PEM) that must have signed' },
  },
  examples: ['rowhouse audit verify', 'rowhouse audit verify acme --public-key audit.pub --json'],
  async run(context) {
    const { options, output, positionals } = context
    const [tenantId] = positionals
    const publicKey = await fileOption(options, 'public-key')
    const publicKeys = publicKey === undefined ? undefined : [publicKey]
    const anchor = textOption(options, 'anchor')
    if (anchor !== undefined && tenantId === undefined) {
      throw new UsageError('--anchor is a digest of one trail: name its tenant.', 'See: rowhouse help audit verify')
    }
    const bar = createProgressBar(process.stderr, context)
    const verified = await withRowhouse(context, async ({ auditLog, tenants }) => {
      const ids = tenantId === undefined ? (await Array.fromAsync(tenants.all())).map(({ id }) => id) : [tenantId]
      const trails: VerifiedAudit[] = []
      for (const id of ids) {
        const place = { tenants: trails.length, totalTenants: ids.length }
        const onProgress = bar.shown
          ? (progress: AuditProgress) => showEntries(bar)({ ...progress, ...place })
          : undefined
        onProgress?.({ tenantId: id, entries: 0, totalEntries: 0, ...place })
        trails.push(await auditLog.verify(id, { anchor, publicKeys, onProgress }))
      }
      return trails
    }).finally(bar.end)
    if (options.json === true) output.line(JSON.stringify(verified, null, 2))
    else {
      const rows = verified.map((trail) => [
        trail.tenantId,
        trail.entries,
        trail.purgedEntries,
        trail.unsealed,
        trail.intact ? 'intact' : 'CHANGED',
      ])
      for (const line of formatTable(['tenant', 'entries', 'purged', 'unsealed', 'state'], rows)) output.line(line)
      for (const { tenantId: id, findings } of verified) {
        for (const finding of findings) output.note(`${id}: ${describe(finding)}`)
      }
    }
    return verified.every(({ intact }) => intact) ? EXIT_OK : EXIT_FAILURE
  },
}

function describe({ kind, object, position, segment, entryId }: AuditFinding): string {
  const which = [position ?? segment, entryId].filter((part) => part !== undefined).join(' ')
  return `${object}${which === '' ? '' : ` ${which}`} ${kind}`
}
