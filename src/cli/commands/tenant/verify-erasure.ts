import type { ErasureVerification } from '../../../erasures/erasures.ts'
import { type Command, EXIT_FAILURE, EXIT_OK } from '../../command.ts'
import { fileOption } from '../../option-values.ts'
import type { Output } from '../../output.ts'
import { formatTable } from '../../table.ts'
import { withRowhouse } from '../../with-rowhouse.ts'
import { TENANT_OPTIONS } from './options.ts'

export const tenantVerifyErasureCommand: Command = {
  name: 'tenant verify-erasure',
  summary: 'Check the receipt of an erasure, and look for what it left',
  description:
    'Checks the receipt against the chain of receipts, and against the certificate that was handed out; then looks in the\n' +
    'whole database for the id, as a word of its own, and for the texts of --texts: tables, large objects, statistics of\n' +
    'the planner, comments, settings. Reads everything once, with the rights of the login: only a superuser sees what\n' +
    'other tenants wrote about this one. Fails when anything is found; what could not be looked through is named, and a\n' +
    'failure only with --strict.',
  positionals: ['<tenant>'],
  options: {
    ...TENANT_OPTIONS,
    certificate: { type: 'string', value: 'FILE', description: 'The certificate that was handed out' },
    'public-key': {
      type: 'string',
      value: 'FILE',
      description: 'The Ed25519 public key (PEM) that must have signed it',
    },
    texts: {
      type: 'string',
      value: 'FILE',
      description: 'What else to look for, such as names: one text in each line',
    },
    strict: { type: 'boolean', description: 'Fail when something could not be looked through' },
  },
  examples: [
    'rowhouse tenant verify-erasure acme',
    'rowhouse tenant verify-erasure acme --certificate acme.jws --public-key erasures.pub --texts names.txt --json',
  ],
  async run(context) {
    const { options, output, positionals } = context
    const [certificate, publicKey, texts] = await Promise.all(
      ['certificate', 'public-key', 'texts'].map((name) => fileOption(options, name)),
    )
    const verified = await withRowhouse(context, ({ erasures }) =>
      erasures.verify(positionals[0]!, {
        certificate,
        publicKeys: publicKey === undefined ? [] : [publicKey],
        texts: texts?.split(/\r?\n/).filter((text) => text !== ''),
      }),
    )
    if (options.json === true) output.line(JSON.stringify(verified, null, 2))
    else print(verified, output)
    const left = verified.residue.filter(({ rows }) => rows !== undefined || options.strict === true)
    return verified.intact && left.length === 0 ? EXIT_OK : EXIT_FAILURE
  },
}

function print({ receipt, intact, residue }: ErasureVerification, output: Output): void {
  const { erasureNumber, erasedAt, erasedBy, rows, auditDigest } = receipt
  output.line(`Receipt ${erasureNumber} of ${erasedAt}, by ${erasedBy}: ${rows} rows erased, digest ${auditDigest}`)
  output.line(
    intact ? 'The receipt is intact.' : output.style('red', 'The receipt was CHANGED, or one before it is missing.'),
  )
  const unseen = residue.filter(({ rows: count }) => count === undefined)
  for (const { object, note } of unseen) output.note(`${output.style('yellow', 'note:')} ${object}: ${note}`)
  const found = residue.flatMap(({ object, rows: count, note }) => (count === undefined ? [] : [[object, count, note]]))
  if (found.length === 0) {
    const where = unseen.length === 0 ? 'in the database' : 'where this login could look'
    output.line(output.style('green', `Nothing of ${receipt.tenantId} was found ${where}.`))
    return
  }
  for (const line of formatTable(['where', 'found', 'what it is'], found)) output.line(line)
}
