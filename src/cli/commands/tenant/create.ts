import { type Command, EXIT_OK } from '../../command.ts'
import { withRowhouse } from '../../with-rowhouse.ts'
import { TENANT_OPTIONS } from './options.ts'

export const tenantCreateCommand: Command = {
  name: 'tenant create',
  summary: 'Create a tenant',
  description: 'Creates the tenant; one that exists already is left as it is.',
  positionals: ['<tenant>'],
  options: {
    ...TENANT_OPTIONS,
    name: { type: 'string', value: 'NAME', description: 'Name for people (default: the id)' },
    tier: { type: 'string', value: 'TIER', description: 'Price tier (default: free)' },
  },
  examples: ['rowhouse tenant create acme --name "Acme Inc." --tier professional'],
  async run(context) {
    const { options, output, positionals } = context
    const tenant = await withRowhouse(context, (rowhouse) =>
      rowhouse.tenants.provision(positionals[0]!, {
        name: options.name as string | undefined,
        tier: options.tier as string | undefined,
      }),
    )
    if (options.json === true) output.line(JSON.stringify(tenant, null, 2))
    else if (tenant.created) output.line(`Tenant ${tenant.id} was created, in tier ${tenant.tier}.`)
    else output.line(`Tenant ${tenant.id} exists already, in tier ${tenant.tier}, and is ${tenant.status}.`)
    return EXIT_OK
  },
}
