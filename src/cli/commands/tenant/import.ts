import { createReadStream } from 'node:fs'
import { access } from 'node:fs/promises'
import type { ImportReceipt } from '../../../portability/portability-types.ts'
import { type Command, EXIT_OK, UsageError } from '../../command.ts'
import type { Output } from '../../output.ts'
import { createProgressBar } from '../../progress-bar.ts'
import { formatTable } from '../../table.ts'
import { withRowhouse } from '../../with-rowhouse.ts'
import { TENANT_OPTIONS } from './options.ts'

export const tenantImportCommand: Command = {
  name: 'tenant import',
  summary: 'Create a tenant from the file of an export',
  description:
    'Creates the tenant with all its rows, or nothing: in one transaction, at whose end every row is read back and compared\n' +
    'with the digests of the file. The database must have the tables of the one that it was exported from. Under another\n' +
    'id, API keys, credentials and the audit trail are left out.',
  positionals: ['<file>'],
  options: {
    ...TENANT_OPTIONS,
    as: { type: 'string', value: 'ID', description: 'Another id than the one that the tenant had' },
    'content-hash': {
      type: 'string',
      value: 'HASH',
      description: 'Accept no other content than the one with this hash',
    },
  },
  examples: ['rowhouse tenant import acme.tar.gz', 'rowhouse tenant import acme.tar.gz --as acme-copy'],
  async run(context) {
    const { options, output, positionals } = context
    const file = positionals[0]!
    await access(file).catch(() => {
      throw new UsageError(
        `There is no file ${file}, or it can not be read.`,
        'Give the file that tenant export wrote.',
      )
    })
    const bar = createProgressBar(process.stderr, context)
    try {
      const receipt = await withRowhouse(context, ({ tenants }) =>
        tenants.import(createReadStream(file), {
          as: options.as as string | undefined,
          contentHash: options['content-hash'] as string | undefined,
          onProgress: (progress) => bar.update(progress),
        }),
      )
      bar.end()
      if (options.json === true) output.line(JSON.stringify(receipt, null, 2))
      else printReceipt(receipt, output)
      return EXIT_OK
    } finally {
      bar.end()
    }
  },
}

function printReceipt({ tenantId, tables, rows, leftOut, contentHash }: ImportReceipt, output: Output): void {
  for (const line of formatTable(['table', 'rows'], [...Object.entries(tables), ['in all', rows]])) output.line(line)
  for (const [table, count] of Object.entries(leftOut)) {
    output.note(`${table} was left out, ${count} rows: they are bound to the id that the tenant had.`)
  }
  output.line(`Tenant ${tenantId} was imported.`)
  output.line(`Content hash ${contentHash}`)
}
