import { IsolationError } from '../../testing/isolation-error.ts'
import { type IsolationProof, proveIsolation } from '../../testing/prove-isolation.ts'
import { type Command, EXIT_FAILURE, EXIT_OK } from '../command.ts'
import { requireDatabaseUrl } from '../database-url.ts'
import { formatTable } from '../table.ts'
import { listOf, SHARED_TABLES_OPTION } from './shared-tables.ts'
import { DATABASE_OPTIONS } from './tenant/options.ts'

export const proveCommand: Command = {
  name: 'prove',
  summary: 'Let one tenant attack another in every table, and roll it back',
  description:
    'Puts a row of each of two throw-away tenants into every protected table and lets one of them try some fifty ways to\n' +
    "reach the other one's row, in one transaction that is rolled back: triggers do run, numbers of sequences are used up.\n" +
    'Fails when a row was read, changed or seen to exist, and when requests reach a table that has no policies. Where seals\n' +
    'are required it needs ROWHOUSE_SEAL.',
  positionals: ['[table]'],
  options: {
    ...DATABASE_OPTIONS,
    role: { type: 'string', value: 'ROLE', description: 'The role of requests (default: rowhouse_app)' },
    shared: SHARED_TABLES_OPTION,
  },
  examples: ['rowhouse prove', 'rowhouse prove public.invoices --json'],
  async run(context) {
    const { options, output, positionals } = context
    const json = options.json === true
    let proof: IsolationProof
    try {
      proof = await proveIsolation(requireDatabaseUrl(context), {
        tables: positionals.length === 0 ? undefined : positionals,
        role: options.role as string | undefined,
        sharedTables: listOf(options.shared),
        seal: context.environment.ROWHOUSE_SEAL,
      })
    } catch (error) {
      if (!(error instanceof IsolationError)) throw error
      if (json) output.line(JSON.stringify({ leaks: error.leaks }, null, 2))
      else output.line(error.message)
      return EXIT_FAILURE
    }
    if (json) output.line(JSON.stringify({ ...proof, leaks: [] }, null, 2))
    else {
      const rows = proof.tables.map(({ table, attempts, refused }) => [table, attempts, refused, 0])
      for (const line of formatTable(['table', 'attempts', 'refused', 'leaks'], rows)) output.line(line)
      output.line(output.style('green', `${proof.attempts} attempts, and no row of the other tenant.`))
    }
    return EXIT_OK
  },
}
