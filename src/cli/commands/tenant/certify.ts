import { type Command, EXIT_OK, UsageError } from '../../command.ts'
import { fileOption } from '../../option-values.ts'
import { withRowhouse } from '../../with-rowhouse.ts'
import { TENANT_OPTIONS } from './options.ts'

export const tenantCertifyCommand: Command = {
  name: 'tenant certify',
  summary: 'Sign the receipt of an erasure, to hand it out',
  description:
    'Prints a certificate: the receipt, signed with an Ed25519 key, as a JWS in compact form. Whoever has the public key\n' +
    'can check it, without this database.',
  positionals: ['<tenant>'],
  options: {
    ...TENANT_OPTIONS,
    'signing-key': { type: 'string', value: 'FILE', description: 'The Ed25519 private key (PEM)' },
  },
  examples: ['rowhouse tenant certify acme --signing-key erasures.pem > acme.jws'],
  async run(context) {
    const { options, output, positionals } = context
    const key = await fileOption(options, 'signing-key')
    if (key === undefined) {
      throw new UsageError(
        'A certificate is signed: name the file of the key.',
        'openssl genpkey -algorithm ed25519 -out erasures.pem; then --signing-key erasures.pem',
      )
    }
    const certificate = await withRowhouse(context, ({ erasures }) => erasures.certify(positionals[0]!, key))
    output.line(options.json === true ? JSON.stringify({ certificate }) : certificate)
    return EXIT_OK
  },
}
