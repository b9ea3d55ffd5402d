import type { AuditDenial } from '../../../audit/audit-log.ts'
import type { Rowhouse } from '../../../rowhouse.ts'
import { type Command, EXIT_OK } from '../../command.ts'
import { formatTable } from '../../table.ts'
import { withRowhouse } from '../../with-rowhouse.ts'
import { TENANT_OPTIONS } from '../tenant/options.ts'

export const auditDenialsCommand: Command = {
  name: 'audit denials',
  summary: 'Show what was refused to a tenant, or to all',
  description:
    'Rate limits, quotas, budgets, circuits and models that refused calls, and refused API keys, in the last days: the last\n' +
    'entry in the audit trail for each. Of one of them, at most one refusal in a minute is recorded.',
  positionals: ['[tenant]'],
  options: TENANT_OPTIONS,
  examples: ['rowhouse audit denials acme', 'rowhouse audit denials --json'],
  async run(context) {
    const { options, output, positionals } = context
    const [tenantId] = positionals
    const denials = await withRowhouse(context, async (rowhouse) => {
      const found: ({ readonly tenantId: string } & AuditDenial)[] = []
      for (const id of tenantId === undefined ? await tenantsHere(rowhouse) : [tenantId]) {
        for (const denial of await rowhouse.auditLog.denials(id)) found.push({ tenantId: id, ...denial })
      }
      return found
    })
    if (options.json === true) output.line(JSON.stringify(denials, null, 2))
    else if (denials.length === 0) output.line('Nothing was refused.')
    else {
      const rows = denials.map(({ tenantId: id, recordedAt, reason, name, detail }) => [
        id,
        recordedAt.toISOString().slice(0, 19).replace('T', ' '),
        reason,
        name,
        describe(detail),
      ])
      for (const line of formatTable(['tenant', 'last recorded', 'reason', 'by', 'detail'], rows)) output.line(line)
    }
    return EXIT_OK
  },
}

/** Of all tenants those whose trails are in this database. */
async function tenantsHere(rowhouse: Rowhouse): Promise<string[]> {
  const tenants = await Array.fromAsync(rowhouse.tenants.all())
  return tenants.filter(({ status }) => status !== 'moved').map(({ id }) => id)
}

function describe(detail: Readonly<Record<string, unknown>>): string {
  return Object.entries(detail)
    .filter(([, value]) => value !== '')
    .map(([name, value]) => `${name} ${String(value)}`)
    .join(', ')
}
