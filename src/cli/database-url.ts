import { type CommandContext, type CommandOption, UsageError } from './command.ts'

export const DATABASE_URL_OPTION: CommandOption = {
  type: 'string',
  value: 'URL',
  description: 'The database, as a postgres:// URL (default: the variable DATABASE_URL)',
}

/** The database that the user named, or undefined. */
export function findDatabaseUrl({ options, environment }: CommandContext): string | undefined {
  const url = options['database-url'] ?? environment.DATABASE_URL
  return typeof url === 'string' && url !== '' ? url : undefined
}

/** The database that the user named. */
export function requireDatabaseUrl(context: CommandContext): string {
  const url = findDatabaseUrl(context)
  if (url !== undefined) return url
  throw new UsageError(
    'No database was named.',
    'Set DATABASE_URL or give --database-url postgres://user:password@localhost:5432/database',
  )
}
