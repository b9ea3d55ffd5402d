import type { CommandOption } from '../../command.ts'
import { DATABASE_URL_OPTION } from '../../database-url.ts'

/** Options of every command about tenants. */
export const TENANT_OPTIONS = {
  'database-url': DATABASE_URL_OPTION,
  json: { type: 'boolean', description: 'Print the result as JSON' },
} as const satisfies Record<string, CommandOption>

export const REASON_OPTION: CommandOption = {
  type: 'string',
  value: 'TEXT',
  description: 'Why, for whoever looks at the tenant later',
}
