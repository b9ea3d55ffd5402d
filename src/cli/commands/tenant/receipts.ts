import { type Command, EXIT_FAILURE, EXIT_OK } from '../../command.ts'
import { formatTable } from '../../table.ts'
import { withRowhouse } from '../../with-rowhouse.ts'
import { TENANT_OPTIONS } from './options.ts'

export const tenantReceiptsCommand: Command = {
  name: 'tenant receipts',
  summary: 'Verify the chain of erasure receipts',
  description: 'Lists the receipts, oldest first. Fails when one was changed, or one before it is missing.',
  options: TENANT_OPTIONS,
  examples: ['rowhouse tenant receipts'],
  async run(context) {
    const { options, output } = context
    const receipts = await withRowhouse(context, ({ tenants }) => tenants.verifyErasures())
    if (options.json === true) {
      output.line(JSON.stringify(receipts, null, 2))
    } else if (receipts.length === 0) {
      output.line('No tenant was ever erased.')
    } else {
      const isDivided = receipts.some(({ placement }) => placement !== undefined)
      const rows = receipts.map(({ erasureNumber, tenantId, placement, intact }) => [
        String(erasureNumber),
        tenantId,
        ...(isDivided ? [placement ?? ''] : []),
        intact ? 'intact' : 'CHANGED',
      ])
      const headers = ['receipt', 'tenant', ...(isDivided ? ['database'] : []), 'state']
      for (const line of formatTable(headers, rows)) output.line(line)
    }
    return receipts.every(({ intact }) => intact) ? EXIT_OK : EXIT_FAILURE
  },
}
