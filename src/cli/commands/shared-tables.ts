import type { CommandOption } from '../command.ts'

/** Option of the commands that look for tables without protection. */
export const SHARED_TABLES_OPTION: CommandOption = {
  type: 'string',
  value: 'TABLES',
  description: 'Tables that every tenant may read, separated by commas: public.countries',
}

/** The parts of `a,b`; undefined where the option was not given. */
export function listOf(value: string | boolean | undefined): string[] | undefined {
  return typeof value === 'string' ? value.split(',').map((part) => part.trim()) : undefined
}
