import type { Tenant } from '../../../tenants/tenant.ts'
import type { Tenants } from '../../../tenants/tenants.ts'
import { type Command, type CommandOption, EXIT_OK, type OptionValues } from '../../command.ts'
import { withRowhouse } from '../../with-rowhouse.ts'
import { REASON_OPTION, TENANT_OPTIONS } from './options.ts'

interface Change {
  readonly name: string
  readonly summary: string
  readonly description: string
  readonly positionals?: readonly string[]
  readonly options?: Readonly<Record<string, CommandOption>>
  readonly example: string
  apply(tenants: Tenants, positionals: readonly string[], options: OptionValues): Promise<void>
}

/** A command that changes one column of the registry and says what the tenant is afterwards. */
function changeCommand({ name, summary, description, positionals, options, example, apply }: Change): Command {
  return {
    name,
    summary,
    description,
    positionals: positionals ?? ['<tenant>'],
    options: { ...TENANT_OPTIONS, ...options },
    examples: [example],
    async run(context) {
      const { output } = context
      const tenant = await withRowhouse(context, async ({ tenants }) => {
        await apply(tenants, context.positionals, context.options)
        return (await tenants.get(context.positionals[0]!))!
      })
      if (context.options.json === true) output.line(JSON.stringify(tenant, null, 2))
      else output.line(describe(tenant))
      return EXIT_OK
    },
  }
}

function describe({ id, status, statusReason, tier }: Tenant): string {
  return `Tenant ${id} is ${status}${statusReason === null ? '' : ` (${statusReason})`}, in tier ${tier}.`
}

function reason(options: OptionValues): { reason?: string } {
  return typeof options.reason === 'string' ? { reason: options.reason } : {}
}

export const tenantSuspendCommand = changeCommand({
  name: 'tenant suspend',
  summary: 'Refuse the transactions of a tenant until it is resumed',
  description: 'Every transaction that the tenant begins from now on is refused. Its data stays.',
  options: { reason: REASON_OPTION },
  example: 'rowhouse tenant suspend acme --reason unpaid',
  apply: (tenants, [tenant], options) => tenants.suspend(tenant!, reason(options)),
})

export const tenantDeactivateCommand = changeCommand({
  name: 'tenant deactivate',
  summary: 'Mark a tenant as one that has left',
  description: 'As suspend, with a status of its own: for a customer who left and whose data is kept for a while.',
  options: { reason: REASON_OPTION },
  example: 'rowhouse tenant deactivate acme --reason "contract ended"',
  apply: (tenants, [tenant], options) => tenants.deactivate(tenant!, reason(options)),
})

export const tenantResumeCommand = changeCommand({
  name: 'tenant resume',
  summary: 'Let a suspended or inactive tenant work again',
  description: 'Lets a suspended or inactive tenant work again.',
  example: 'rowhouse tenant resume acme',
  apply: (tenants, [tenant]) => tenants.resume(tenant!),
})

export const tenantTierCommand = changeCommand({
  name: 'tenant tier',
  summary: 'Put a tenant into another tier',
  description: 'Puts the tenant into another tier, which chooses defaults such as limits.',
  positionals: ['<tenant>', '<tier>'],
  example: 'rowhouse tenant tier acme enterprise',
  apply: (tenants, [tenant, tier]) => tenants.setTier(tenant!, tier!),
})
