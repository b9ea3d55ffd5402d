import type { RowhouseOptions } from '../context/rowhouse-options.ts'
import { type CommandContext, type CommandOption, UsageError } from './command.ts'

export const PLACEMENTS_OPTION: CommandOption = {
  type: 'string',
  value: 'LIST',
  description: 'Other databases, as name=URL name=URL (default: the variable ROWHOUSE_PLACEMENTS)',
}

/** How to name the databases that were not. */
export function placementsHint(names: readonly string[]): string {
  const list = names.map((name) => `${name}=postgres://...`).join(' ')
  return `Give --placements "${list}", or set ROWHOUSE_PLACEMENTS to that list.`
}

/** The other databases that the user named. */
export function readPlacements({ options, environment }: CommandContext): NonNullable<RowhouseOptions['placements']> {
  const list = String(options.placements ?? environment.ROWHOUSE_PLACEMENTS ?? '')
  const words = list.split(/\s+/).filter((word) => word !== '')
  return Object.fromEntries(
    words.map((word) => {
      const [, name, url] = /^([^=]+)=(.+)$/.exec(word) ?? []
      if (name === undefined || url === undefined) {
        throw new UsageError(
          'The list of placements is not understood.',
          'For example: --placements "eu=postgres://user:password@eu.example.com/app"',
        )
      }
      return [name, { connectionString: url, poolOptions: { max: 2 } }]
    }),
  )
}
