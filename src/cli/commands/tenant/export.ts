import { createWriteStream } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import type { ExportReceipt } from '../../../portability/portability-types.ts'
import { type Command, EXIT_OK, UsageError } from '../../command.ts'
import type { Output } from '../../output.ts'
import { createProgressBar } from '../../progress-bar.ts'
import { formatTable } from '../../table.ts'
import { withRowhouse } from '../../with-rowhouse.ts'
import { TENANT_OPTIONS } from './options.ts'

export const tenantExportCommand: Command = {
  name: 'tenant export',
  summary: 'Write everything of a tenant to a file',
  description:
    'Writes every row of the tenant in every registered table, as it is at one moment, to a gzipped tar of lines of JSON.\n' +
    'Other transactions go on. Keep the content hash elsewhere: an import can be told to accept nothing else.',
  positionals: ['<tenant>'],
  options: {
    ...TENANT_OPTIONS,
    out: { type: 'string', short: 'o', value: 'FILE', description: 'The file, which is replaced when all is written' },
  },
  examples: ['rowhouse tenant export acme --out acme.tar.gz'],
  async run(context) {
    const { options, output, positionals } = context
    if (typeof options.out !== 'string') {
      throw new UsageError('tenant export needs --out.', 'For example: --out acme.tar.gz')
    }
    const { out } = options
    const unfinished = `${out}.part`
    const bar = createProgressBar(process.stderr, context)
    try {
      const receipt = await withRowhouse(context, ({ tenants }) =>
        tenants.export(positionals[0]!, {
          to: createWriteStream(unfinished, { mode: 0o600 }),
          onProgress: (progress) => bar.update(progress),
        }),
      )
      await rename(unfinished, out)
      bar.end()
      if (options.json === true) output.line(JSON.stringify(receipt, null, 2))
      else printReceipt(receipt, out, output)
      return EXIT_OK
    } catch (error) {
      bar.end()
      await rm(unfinished, { force: true })
      throw error
    }
  },
}

function printReceipt(
  { tenantId, tables, rows, bytes, contentHash }: ExportReceipt,
  out: string,
  output: Output,
): void {
  for (const line of formatTable(['table', 'rows'], [...Object.entries(tables), ['in all', rows]])) output.line(line)
  output.line(`Tenant ${tenantId} was exported to ${out}: ${bytes.toLocaleString('en')} bytes.`)
  output.line(`Content hash ${contentHash}`)
}
