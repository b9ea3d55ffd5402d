import type { RowhouseOptions } from '../context/rowhouse-options.ts'
import { createRowhouseError } from '../errors.ts'
import { createRowhouse, type Rowhouse } from '../rowhouse.ts'
import type { CommandContext } from './command.ts'
import { requireDatabaseUrl } from './database-url.ts'
import { placementsHint, readPlacements } from './placements.ts'

/** Runs `fn` on the databases that the command line names; the connections end with it. */
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
    placements: readPlacements(context),
    ...options,
  })
  try {
    if (isForAllTenants(context)) await refuseToLeaveOut(rowhouse)
    return await fn(rowhouse)
  } finally {
    await rowhouse.close()
  }
}

/** Whether the command is for one tenant or all, and none was named. */
function isForAllTenants({ command, positionals, options }: CommandContext): boolean {
  if (command.positionals?.[0] === '[tenant]') return positionals.length === 0
  return command.options.tenant !== undefined && options.tenant === undefined
}

/** Tenants that moved to a database which was not named would be left out silently. */
async function refuseToLeaveOut({ tenants }: Rowhouse): Promise<void> {
  const elsewhere = new Map<string, number>()
  for await (const { placement } of tenants.all({ status: 'moved' })) {
    // This database is not the home of a tenant that moved back there.
    if (placement === null || placement === 'home') continue
    elsewhere.set(placement, (elsewhere.get(placement) ?? 0) + 1)
  }
  if (elsewhere.size === 0) return
  const list = [...elsewhere].map(([placement, count]) => `${placement} (${count})`).join(', ')
  throw createRowhouseError('tenant_moved', `Tenants are in databases that were not named: ${list}.`, {
    hint: placementsHint([...elsewhere.keys()]),
  })
}
