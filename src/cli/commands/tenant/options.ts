import type { CommandOption } from '../../command.ts'
import { DATABASE_URL_OPTION } from '../../database-url.ts'
import { PLACEMENTS_OPTION } from '../../placements.ts'

/** Options of every command about one database. */
export const DATABASE_OPTIONS = {
  'database-url': DATABASE_URL_OPTION,
  json: { type: 'boolean', description: 'Print the result as JSON' },
} as const satisfies Record<string, CommandOption>

/** Options of every command about tenants. */
export const TENANT_OPTIONS = {
  ...DATABASE_OPTIONS,
  placements: PLACEMENTS_OPTION,
} as const satisfies Record<string, CommandOption>

export const YES_OPTION: CommandOption = { type: 'boolean', short: 'y', description: 'Do not ask' }

export const REASON_OPTION: CommandOption = {
  type: 'string',
  value: 'TEXT',
  description: 'Why, for whoever looks at the tenant later',
}
