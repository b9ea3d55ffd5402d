import { createRowhouseError } from '../../../errors.ts'
import type { ApiKey } from '../../../keys/api-keys.ts'
import { type Command, EXIT_OK } from '../../command.ts'
import { confirm } from '../../confirm.ts'
import { formatTable } from '../../table.ts'
import { withRowhouse } from '../../with-rowhouse.ts'
import { REASON_OPTION, TENANT_OPTIONS, YES_OPTION } from '../tenant/options.ts'

export const keyListCommand: Command = {
  name: 'key list',
  summary: 'List the API keys of a tenant',
  description: 'With those that are revoked or expired.',
  positionals: ['<tenant>'],
  options: TENANT_OPTIONS,
  examples: ['rowhouse key list acme'],
  async run(context) {
    const { options, output, positionals } = context
    const keys = await withRowhouse(context, async ({ apiKeys, tenants }) => {
      const found = await apiKeys.list(positionals[0]!)
      if (found.length > 0 || (await tenants.get(positionals[0]!)) !== undefined) return found
      throw createRowhouseError('tenant_not_found', `tenant "${positionals[0]}" does not exist`)
    })
    if (options.json === true) output.line(JSON.stringify(keys, null, 2))
    else if (keys.length === 0) output.line('No keys.')
    else {
      const rows = keys.map((key) => [
        key.id,
        key.name,
        key.environment,
        key.scopes.join(' '),
        stateOf(key),
        dateOf(key.lastUsedAt),
      ])
      for (const line of formatTable(['key', 'name', 'for', 'scopes', 'state', 'last used'], rows)) output.line(line)
    }
    return EXIT_OK
  },
}

export const keyRevokeCommand: Command = {
  name: 'key revoke',
  summary: 'Revoke an API key',
  description: 'It is refused from now on, everywhere.',
  positionals: ['<tenant>', '<key id>'],
  options: { ...TENANT_OPTIONS, reason: REASON_OPTION, yes: YES_OPTION },
  examples: ['rowhouse key revoke acme 4d1c0f5a7b2e9d38 --reason leaked --yes'],
  async run(context) {
    const { options, output, positionals } = context
    const [tenantId, id] = positionals as [string, string]
    await confirm(context, `This revokes the key ${id} of ${tenantId} for good.`, tenantId)
    await withRowhouse(context, ({ apiKeys }) =>
      apiKeys.revoke(tenantId, id, { reason: options.reason as string | undefined }),
    )
    if (options.json === true) output.line(JSON.stringify({ tenantId, id, revoked: true }))
    else output.line(`Key ${id} of ${tenantId} is revoked.`)
    return EXIT_OK
  },
}

function stateOf({ revokedAt, expiresAt, replacedBy }: ApiKey): string {
  if (revokedAt !== null) return `revoked ${dateOf(revokedAt)}`
  if (expiresAt !== null && expiresAt <= new Date()) return `expired ${dateOf(expiresAt)}`
  if (expiresAt !== null) return `${replacedBy === null ? 'until' : 'replaced, until'} ${dateOf(expiresAt)}`
  return 'valid'
}

function dateOf(date: Date | null): string {
  return date === null ? 'never' : date.toISOString().slice(0, 10)
}
