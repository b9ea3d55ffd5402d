import { migrate } from '../../migrate/migrate.ts'
import { migrationStatus } from '../../migrate/status.ts'
import { type Command, EXIT_OK, UsageError } from '../command.ts'
import { DATABASE_URL_OPTION, requireDatabaseUrl } from '../database-url.ts'
import { createProgressPrinter, printDryRun, printStatus, printSummary } from '../migration-output.ts'

export const migrateCommand: Command = {
  name: 'migrate',
  summary: 'Install rowhouse into a database, or bring it up to this version',
  description:
    'Creates the roles rowhouse_owner, rowhouse_app, rowhouse_admin and rowhouse_search, the schema rowhouse and everything in it.\n' +
    'Touches nothing else. Running it again, or in many processes at once, does no harm.\n\n' +
    'The login needs no superuser: it owns the database and has CREATEROLE, or an administrator prepared the roles\n' +
    '(the error says which statements). PostgreSQL 15 or later; pgvector is needed by collections alone.',
  options: {
    'database-url': DATABASE_URL_OPTION,
    'dry-run': { type: 'boolean', description: 'Say what would run, write nothing' },
    verbose: { type: 'boolean', description: 'With --dry-run: show the SQL' },
    status: { type: 'boolean', description: 'Say for each file whether it is applied, write nothing' },
    json: { type: 'boolean', description: 'Print the report as JSON' },
  },
  examples: [
    'DATABASE_URL=postgres://owner@localhost/app rowhouse migrate',
    'rowhouse migrate --database-url postgres://owner@localhost/app --dry-run --verbose',
    'rowhouse migrate --status --json',
  ],
  async run(context) {
    const { options, output } = context
    if (options.status === true && options['dry-run'] === true) {
      throw new UsageError('--status and --dry-run exclude each other.', 'Give one of them.')
    }
    const json = options.json === true
    const connection = { connectionString: requireDatabaseUrl(context) }
    if (options.status === true) {
      const status = await migrationStatus(connection)
      if (json) output.line(JSON.stringify(status, null, 2))
      else printStatus(status, output)
      return EXIT_OK
    }
    const dryRun = options['dry-run'] === true
    const printer = json ? undefined : createProgressPrinter(output)
    try {
      const report = await migrate(connection, {
        dryRun,
        ...(printer === undefined || dryRun ? {} : { onProgress: printer.onProgress }),
      })
      if (json) output.line(JSON.stringify(report, null, 2))
      else if (dryRun) printDryRun(report, output, options.verbose === true)
      else printSummary(report, output)
    } finally {
      printer?.stop()
    }
    return EXIT_OK
  },
}
