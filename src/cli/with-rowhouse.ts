import type { RowhouseOptions } from '../context/rowhouse-options.ts'
import { createRowhouse, type Rowhouse } from '../rowhouse.ts'
import type { CommandContext } from './command.ts'
import { requireDatabaseUrl } from './database-url.ts'

/** Runs `fn` on the database that the command line names; the connection ends with it. */
export async function withRowhouse<T>(
  context: CommandContext,
  fn: (rowhouse: Rowhouse) => Promise<T>,
  options: Pick<RowhouseOptions, 'placements'> = {},
): Promise<T> {
  const rowhouse = createRowhouse({
    connectionString: requireDatabaseUrl(context),
    poolOptions: { max: 2 },
    // Where seals are required; this is no request, so it may be the login of an operator.
    seal: context.environment.ROWHOUSE_SEAL,
    allowPrivilegedLogin: true,
    ...options,
  })
  try {
    return await fn(rowhouse)
  } finally {
    await rowhouse.close()
  }
}
