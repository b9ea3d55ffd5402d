import { findIsolationGaps } from '../../testing/find-isolation-gaps.ts'
import type { IsolationGap } from '../../testing/isolation-gap.ts'
import { type Command, EXIT_FAILURE, EXIT_OK } from '../command.ts'
import { requireDatabaseUrl } from '../database-url.ts'
import type { Output } from '../output.ts'
import { TENANT_OPTIONS } from './tenant/options.ts'

export const doctorCommand: Command = {
  name: 'doctor',
  summary: 'Find what could let one tenant reach another',
  description:
    'Reads the catalogs: tables, partitions and views without protection, weakened policies, keys and foreign keys without\n' +
    'the tenant, privileges, functions and roles that policies do not hold for. Changes nothing. Each finding comes with\n' +
    'the statement that mends it. Fails when there is an error; warnings alone are no failure.',
  options: {
    ...TENANT_OPTIONS,
    role: { type: 'string', value: 'ROLE', description: 'The role of requests (default: rowhouse_app)' },
    shared: {
      type: 'string',
      value: 'TABLES',
      description: 'Tables that every tenant may read, separated by commas: public.countries',
    },
  },
  examples: ['rowhouse doctor', 'rowhouse doctor --shared public.countries,public.currencies --json'],
  async run(context) {
    const { options, output } = context
    const gaps = await findIsolationGaps(requireDatabaseUrl(context), {
      role: options.role as string | undefined,
      sharedTables: (options.shared as string | undefined)?.split(',').map((table) => table.trim()),
    })
    if (options.json === true) output.line(JSON.stringify(gaps, null, 2))
    else print(gaps, output)
    return gaps.some(({ level }) => level === 'error') ? EXIT_FAILURE : EXIT_OK
  },
}

function print(gaps: readonly IsolationGap[], output: Output): void {
  for (const { level, object, detail, mend } of gaps) {
    const style = level === 'error' ? 'red' : 'yellow'
    output.line(`${output.style(style, level.padEnd(7))}  ${object}: ${detail}`)
    output.line(output.style('dim', `         ${mend}`))
  }
  const errors = gaps.filter(({ level }) => level === 'error').length
  if (gaps.length === 0) output.line(output.style('green', 'Nothing found: every table keeps its tenants apart.'))
  else output.line(`${errors} errors, ${gaps.length - errors} warnings`)
}
