import type { IssuedApiKey } from '../../../keys/api-keys.ts'
import { type Command, type CommandContext, EXIT_OK } from '../../command.ts'
import { numberOption, timeOption } from '../../option-values.ts'
import { withRowhouse } from '../../with-rowhouse.ts'
import { TENANT_OPTIONS } from '../tenant/options.ts'

export const keyIssueCommand: Command = {
  name: 'key issue',
  summary: 'Issue an API key',
  description: 'Prints the key, once: only a digest of it is kept.',
  positionals: ['<tenant>', '<name>'],
  options: {
    ...TENANT_OPTIONS,
    scopes: { type: 'string', value: 'LIST', description: 'What it may do, separated by commas (default: everything)' },
    'allowed-ips': { type: 'string', value: 'LIST', description: 'From where, separated by commas: 203.0.113.0/24' },
    expires: { type: 'string', value: 'TIME', description: 'Until when, for example 2027-01-01 (default: for ever)' },
    test: { type: 'boolean', description: 'For the environment test instead of live' },
  },
  examples: ['rowhouse key issue acme importer --scopes documents:read,documents:write --expires 2027-01-01'],
  async run(context) {
    const { options, positionals } = context
    const expiresAt = timeOption(options, 'expires')
    const listOf = (name: string) => (options[name] as string | undefined)?.split(',').map((item) => item.trim())
    const scopes = listOf('scopes')
    const allowedIps = listOf('allowed-ips')
    const issued = await withRowhouse(context, ({ apiKeys }) =>
      apiKeys.issue(positionals[0]!, {
        name: positionals[1]!,
        ...(scopes && { scopes }),
        ...(allowedIps && { allowedIps }),
        environment: options.test === true ? 'test' : 'live',
        ...(expiresAt && { expiresAt }),
      }),
    )
    return printIssued(context, issued)
  },
}

export const keyRotateCommand: Command = {
  name: 'key rotate',
  summary: 'Issue an API key in place of another one',
  description: 'Prints the new key, once. It expires when the old one would; that works for the hours of --overlap.',
  positionals: ['<tenant>', '<key id>'],
  options: {
    ...TENANT_OPTIONS,
    overlap: { type: 'string', value: 'HOURS', description: 'How long the old key works (default: 24)' },
  },
  examples: ['rowhouse key rotate acme 4d1c0f5a7b2e9d38 --overlap 1'],
  async run(context) {
    const { options, positionals } = context
    const overlap = numberOption(options, 'overlap')
    const overlapMs = overlap === undefined ? undefined : Math.round(overlap * 3_600_000)
    const issued = await withRowhouse(context, ({ apiKeys }) =>
      apiKeys.rotate(positionals[0]!, positionals[1]!, { overlapMs }),
    )
    return printIssued(context, issued)
  },
}

/** The key alone on standard output, so that it can be put into a variable. */
function printIssued({ options, output }: CommandContext, issued: IssuedApiKey): number {
  if (options.json === true) output.line(JSON.stringify(issued, null, 2))
  else {
    output.note(`Key ${issued.id} of ${issued.tenantId}; it is not shown again:`)
    output.line(issued.key)
  }
  return EXIT_OK
}
