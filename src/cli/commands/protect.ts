import type { ProtectedTable, ProtectionFinding, ProtectionReport } from '../../protect/protection-report.ts'
import { type Command, EXIT_OK, UsageError } from '../command.ts'
import { DATABASE_URL_OPTION } from '../database-url.ts'
import type { Output, Style } from '../output.ts'
import { formatTable } from '../table.ts'
import { withRowhouse } from '../with-rowhouse.ts'

export const protectCommand: Command = {
  name: 'protect',
  summary: 'Put a table of yours under row-level security by tenant',
  description:
    'Adds what is missing: the tenant column, default, not null, policies on the table and its partitions, privileges,\n' +
    'write guard, registration. Reports what it can not make safe, with the statement that mends it. The login must own\n' +
    'the table. Without a table, lists the protected ones.',
  positionals: ['[table]'],
  options: {
    'database-url': DATABASE_URL_OPTION,
    column: { type: 'string', value: 'NAME', description: 'The tenant column (default: tenant_id)' },
    'existing-rows': { type: 'string', value: 'TENANT', description: 'The tenant of the rows that have none' },
    partition: { type: 'boolean', description: 'Partition the table by tenant as well; rewrites it' },
    online: { type: 'boolean', description: 'Step by step, with short locks, indexes concurrently' },
    'dry-run': { type: 'boolean', description: 'Print the statements and findings, change nothing' },
    json: { type: 'boolean', description: 'Print the report as JSON' },
  },
  examples: [
    'rowhouse protect public.invoices --dry-run',
    'rowhouse protect public.invoices --existing-rows acme --online',
    'rowhouse protect',
  ],
  async run(context) {
    const { options, output, positionals } = context
    const [table] = positionals
    const json = options.json === true
    return withRowhouse(context, async (rowhouse) => {
      if (table === undefined) {
        if (options['dry-run'] === true) throw new UsageError('--dry-run needs a table.', 'See: rowhouse help protect')
        const tables = await rowhouse.protectedTables()
        if (json) output.line(JSON.stringify(tables, null, 2))
        else printTables(tables, output)
        return EXIT_OK
      }
      const report = await rowhouse.protectTable(table, {
        column: options.column as string | undefined,
        existingRows: options['existing-rows'] as string | undefined,
        partition: options.partition === true,
        online: options.online === true,
        dryRun: options['dry-run'] === true,
        ...(json
          ? {}
          : { onProgress: ({ statement }) => output.line(`  ${output.style('green', '✓')} ${firstLine(statement)}`) }),
      })
      if (json) output.line(JSON.stringify(report, null, 2))
      else printReport(report, output)
      return EXIT_OK
    })
  },
}

function firstLine(statement: string): string {
  return statement.split('\n')[0]!
}

function printTables(tables: readonly ProtectedTable[], output: Output): void {
  if (tables.length === 0) {
    output.line('No table is protected.')
    return
  }
  const rows = tables.map(({ table, column, columnType, layout }) => [table, `${column} ${columnType}`, layout])
  for (const line of formatTable(['table', 'tenant column', 'layout'], rows)) output.line(line)
}

function printReport({ table, dryRun, steps, findings }: ProtectionReport, output: Output): void {
  if (dryRun) {
    for (const { statement } of steps) output.line(`${statement};`)
    output.line()
  }
  if (steps.length === 0) output.line(`${table} is protected already.`)
  else if (dryRun) output.line(`Dry run: ${steps.length} statements would protect ${table}; nothing was changed.`)
  else output.line(`${table} is protected, by ${steps.filter(({ done }) => done).length} statements.`)
  for (const step of dryRun ? [] : steps.filter(({ done }) => !done)) {
    output.note(`${output.style('yellow', 'left to you:')} ${step.purpose}\n  ${step.statement};`)
  }
  for (const finding of findings) printFinding(finding, output)
}

const LEVEL_STYLES: Record<ProtectionFinding['level'], Style> = { error: 'red', warning: 'yellow', info: 'dim' }

function printFinding({ level, object, detail, mend }: ProtectionFinding, output: Output): void {
  output.note(`${output.style(LEVEL_STYLES[level], `${level}:`)} ${object}: ${detail}`)
  if (mend) output.note(`  ${mend}`)
}
