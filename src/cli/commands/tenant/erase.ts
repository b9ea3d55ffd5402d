import type { ErasurePreview, ErasureReceipt } from '../../../tenants/erasure-receipt.ts'
import { type Command, EXIT_FAILURE, EXIT_OK } from '../../command.ts'
import { confirm } from '../../confirm.ts'
import type { Output } from '../../output.ts'
import { createProgressBar } from '../../progress-bar.ts'
import { formatTable } from '../../table.ts'
import { withRowhouse } from '../../with-rowhouse.ts'
import { TENANT_OPTIONS } from './options.ts'

export const tenantEraseCommand: Command = {
  name: 'tenant erase',
  summary: 'Erase everything of a tenant, and print the receipt',
  description:
    'Deletes every row of the tenant in every registered table, in one transaction, checks that none is left, and\n' +
    'stores a receipt that is chained to the one before. Can not be undone, and the id is never used again.\n\n' +
    'Refused when a table that is not registered holds rows of the tenant. --dry-run counts and says what is in the way.',
  positionals: ['<tenant>'],
  options: {
    ...TENANT_OPTIONS,
    'dry-run': { type: 'boolean', description: 'Count the rows, say what would be in the way, erase nothing' },
    yes: { type: 'boolean', short: 'y', description: 'Do not ask' },
  },
  examples: ['rowhouse tenant erase acme --dry-run', 'rowhouse tenant erase acme --yes --json > receipt.json'],
  async run(context) {
    const { options, output, positionals } = context
    const tenantId = positionals[0]!
    const json = options.json === true
    return withRowhouse(context, async ({ tenants }) => {
      if (options['dry-run'] === true) {
        const preview = await tenants.erase(tenantId, { dryRun: true })
        if (json) output.line(JSON.stringify(preview, null, 2))
        else printPreview(preview, output)
        return preview.obstacles.length === 0 ? EXIT_OK : EXIT_FAILURE
      }
      if (options.yes !== true) {
        const { rows } = await tenants.erase(tenantId, { dryRun: true })
        await confirm(context, `This erases ${rows} rows of ${tenantId} for good.`, tenantId)
      }
      const bar = createProgressBar(process.stderr, context)
      const onProgress = bar.shown ? bar.update : undefined
      const receipt = await tenants.erase(tenantId, { onProgress }).finally(bar.end)
      if (json) output.line(JSON.stringify(receipt, null, 2))
      else printReceipt(receipt, output)
      return EXIT_OK
    })
  },
}

function printPreview({ tenantId, tables, rows, obstacles }: ErasurePreview, output: Output): void {
  for (const line of formatTable(['table', 'rows'], [...Object.entries(tables), ['in all', rows]])) output.line(line)
  for (const { message, hint } of obstacles) {
    output.note(`${output.style('red', 'in the way:')} ${message}`)
    if (hint !== null) output.note(`  ${hint}`)
  }
  output.line(`Dry run: nothing of ${tenantId} was erased.`)
}

function printReceipt(receipt: ErasureReceipt, output: Output): void {
  const { tables, rows, residue, exemptTables } = receipt
  for (const line of formatTable(['table', 'rows erased'], [...Object.entries(tables), ['in all', rows]])) {
    output.line(line)
  }
  for (const [table, reason] of Object.entries(exemptTables)) output.line(`Not erased, exempt: ${table} (${reason})`)
  const checked = residue.registeredTablesChecked + residue.otherTablesChecked
  output.line(
    `No row is left, in ${checked === 1 ? 'the 1 table' : `any of the ${checked} tables`} that could hold one.`,
  )
  output.line(`Receipt ${receipt.erasureNumber} of ${receipt.erasedAt}, by ${receipt.erasedBy}.`)
  output.line(`Digest ${receipt.auditDigest}`)
}
