import type { MovedTenant, RelocationOptions, RelocationProgress } from '../../../tenants/relocate-tenant.ts'
import type { Tenants } from '../../../tenants/tenants.ts'
import { type Command, EXIT_OK } from '../../command.ts'
import type { Output } from '../../output.ts'
import { formatTable } from '../../table.ts'
import { withRowhouse } from '../../with-rowhouse.ts'
import { TENANT_OPTIONS } from './options.ts'

interface Move {
  readonly name: string
  readonly summary: string
  readonly description: string
  readonly example: string
  /** What happened to the rows, for example `moved into own partitions`. */
  readonly done: string
  apply(tenants: Tenants, tenantId: string, options: RelocationOptions): Promise<MovedTenant>
}

function moveCommand({ name, summary, description, example, done, apply }: Move): Command {
  return {
    name,
    summary,
    description,
    positionals: ['<tenant>'],
    options: TENANT_OPTIONS,
    examples: [example],
    async run(context) {
      const { options, output, positionals } = context
      const onProgress = (progress: RelocationProgress) => {
        if (options.json !== true) output.note(describeProgress(progress))
      }
      const moved = await withRowhouse(context, ({ tenants }) => apply(tenants, positionals[0]!, { onProgress }))
      if (options.json === true) output.line(JSON.stringify(moved, null, 2))
      else printMove(moved, done, output)
      return EXIT_OK
    },
  }
}

function describeProgress({ step, table, rows }: RelocationProgress): string {
  if (step === 'preparing') return `Prepared ${table}`
  if (rows !== undefined) return `Moved ${rows} rows of ${table}`
  return step === 'waiting' ? 'Waiting for transactions that began before' : 'Moving the rows'
}

function printMove({ tenantId, tables, skipped }: MovedTenant, done: string, output: Output): void {
  const rows = Object.entries(tables)
  if (rows.length === 0) output.line(`Tenant ${tenantId}: there was nothing to move.`)
  else for (const line of formatTable(['table', `rows ${done}`], rows)) output.line(line)
  for (const [table, reason] of Object.entries(skipped)) output.note(`${table} was left as it is: ${reason}`)
}

export const tenantPromoteCommand = moveCommand({
  name: 'tenant promote',
  summary: 'Give a tenant that has grown partitions of its own',
  description:
    'Moves the rows of the tenant into partitions of its own, in a schema of its own. Its\n' +
    'transactions wait meanwhile, none fails, and other tenants go on. Running it again takes in tables that came later.',
  example: 'rowhouse tenant promote acme',
  done: 'moved into own partitions',
  apply: (tenants, tenantId, options) => tenants.promote(tenantId, options),
})

export const tenantDemoteCommand = moveCommand({
  name: 'tenant demote',
  summary: 'Move a promoted tenant back into the shared partitions',
  description:
    'The opposite of promote. The transactions of the tenant wait until it is done, other tenants go on. When it was cut\n' +
    'off, the tenant stays closed until it is run again.',
  example: 'rowhouse tenant demote acme',
  done: 'moved into shared partitions',
  apply: (tenants, tenantId, options) => tenants.demote(tenantId, options),
})
