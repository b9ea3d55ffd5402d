import { join } from 'node:path'
import type { DoctorOptions } from '../../doctor/doctor.ts'
import type { Finding, FindingLevel } from '../../doctor/finding.ts'
import { loadLints } from '../../doctor/lint.ts'
import { toSarif } from '../../doctor/sarif.ts'
import { SQL_FOLDER } from '../../migrate/sql-files.ts'
import { type Command, EXIT_FAILURE, EXIT_OK, UsageError } from '../command.ts'
import { requireDatabaseUrl } from '../database-url.ts'
import { nearest } from '../nearest.ts'
import type { Output } from '../output.ts'
import { withRowhouse } from '../with-rowhouse.ts'
import { listOf, SHARED_TABLES_OPTION } from './shared-tables.ts'
import { DATABASE_OPTIONS } from './tenant/options.ts'

export const doctorCommand: Command = {
  name: 'doctor',
  summary: 'Find what could let one tenant reach another',
  description:
    'Reads the catalogs: tables, partitions and views without protection, weakened policies, keys and foreign keys without\n' +
    'the tenant, privileges, functions and roles that policies do not hold for, what was changed of rowhouse by hand, a server\n' +
    'that lacks fixes. Changes nothing. Each finding comes with the statement that mends it. Fails when there is an error;\n' +
    'warnings alone are no failure.',
  options: {
    ...DATABASE_OPTIONS,
    sarif: { type: 'boolean', description: 'Print SARIF 2.1.0, for code scanning services' },
    level: {
      type: 'string',
      value: 'LEVEL',
      description: 'error, warning or info: leave out what is below (default: warning)',
      choices: ['error', 'warning', 'info'],
    },
    ignore: { type: 'string', value: 'NAMES', description: 'Lints or cache keys to leave out, separated by commas' },
    role: { type: 'string', value: 'ROLE', description: 'The role of requests (default: rowhouse_app)' },
    shared: SHARED_TABLES_OPTION,
  },
  examples: [
    'rowhouse doctor',
    'rowhouse doctor --shared public.countries,public.currencies --json',
    'rowhouse doctor --ignore outdated_server --sarif',
  ],
  async run(context) {
    const { options, output } = context
    if (options.json === true && options.sarif === true) {
      throw new UsageError('Either --json or --sarif.', 'See: rowhouse help doctor')
    }
    const doctorOptions: DoctorOptions = {
      role: options.role as string | undefined,
      sharedTables: listOf(options.shared),
      level: options.level as FindingLevel | undefined,
      ignore: listOf(options.ignore),
    }
    const lints = await loadLints(join(SQL_FOLDER, 'doctor'))
    checkIgnored(
      doctorOptions.ignore,
      lints.map(({ name }) => name),
    )
    const findings = await withRowhouse(context, (rowhouse) => rowhouse.doctor(doctorOptions))
    if (options.sarif === true) {
      const database = new URL(requireDatabaseUrl(context)).pathname.slice(1)
      output.line(JSON.stringify(toSarif(findings, lints, database), null, 2))
    } else if (options.json === true) output.line(JSON.stringify(findings, null, 2))
    else print(findings, output)
    return findings.some(({ level }) => level === 'error') ? EXIT_FAILURE : EXIT_OK
  },
}

/** A name that is none hides nothing, which nobody would notice. The key of a single finding begins with its lint. */
function checkIgnored(ignored: readonly string[] = [], names: readonly string[]): void {
  for (const given of ignored) {
    const [lint = given] = /^[a-z_]+/.exec(given) ?? []
    if (names.includes(lint)) continue
    const meant = nearest(lint, names)
    throw new UsageError(
      `--ignore: there is no lint "${given}".`,
      meant === undefined ? 'The name of a lint is behind each of its findings.' : `Did you mean ${meant}?`,
    )
  }
}

const STYLES = { error: 'red', warning: 'yellow', info: 'dim' } as const

function print(findings: readonly Finding[], output: Output): void {
  for (const { name, level, object, detail, mend } of findings) {
    output.line(
      `${output.style(STYLES[level], level.padEnd(7))}  ${object}: ${detail} ${output.style('dim', `(${name})`)}`,
    )
    output.line(output.style('dim', `         ${mend}`))
  }
  const count = (wanted: string) => findings.filter(({ level }) => level === wanted).length
  if (findings.length === 0) output.line(output.style('green', 'Nothing found: every table keeps its tenants apart.'))
  else output.line(`${count('error')} errors, ${count('warning')} warnings`)
}
