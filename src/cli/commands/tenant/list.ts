import type { TenantStatus } from '../../../tenants/tenant.ts'
import { type Command, EXIT_OK } from '../../command.ts'
import { formatTable } from '../../table.ts'
import { withRowhouse } from '../../with-rowhouse.ts'
import { TENANT_OPTIONS } from './options.ts'

export const tenantListCommand: Command = {
  name: 'tenant list',
  summary: 'List the tenants',
  description: 'Lists the tenants in the order of their ids, with status, tier and whether they have own partitions.',
  options: {
    ...TENANT_OPTIONS,
    status: {
      type: 'string',
      value: 'STATUS',
      description: 'Only active, suspended, inactive, relocating, importing, moving, moved, erasing or erased ones',
      choices: ['active', 'suspended', 'inactive', 'relocating', 'importing', 'moving', 'moved', 'erasing', 'erased'],
    },
    tier: { type: 'string', value: 'TIER', description: 'Only tenants of this tier' },
  },
  examples: ['rowhouse tenant list', 'rowhouse tenant list --status suspended --json'],
  async run(context) {
    const { options, output } = context
    const filter = {
      status: options.status as TenantStatus | undefined,
      tier: options.tier as string | undefined,
    }
    const tenants = await withRowhouse(context, (rowhouse) => Array.fromAsync(rowhouse.tenants.all(filter)))
    if (options.json === true) {
      output.line(JSON.stringify(tenants, null, 2))
      return EXIT_OK
    }
    if (tenants.length === 0) {
      output.line('No tenants.')
      return EXIT_OK
    }
    const [header = '', ...lines] = formatTable(
      ['tenant', 'name', 'tier', 'status', 'partitions', 'created'],
      tenants.map(({ id, name, tier, status, promoted, createdAt }) => [
        id,
        name,
        tier,
        status,
        promoted ? 'own' : 'shared',
        createdAt.toISOString().slice(0, 10),
      ]),
    )
    output.line(output.style('dim', header))
    for (const line of lines) output.line(line)
    return EXIT_OK
  },
}
