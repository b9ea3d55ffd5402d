import { runDoctor } from '../doctor/doctor.ts'
import type { IsolationGap } from './isolation-gap.ts'
import { onTestConnection, type TestConnection } from './test-connection.ts'

export interface FindGapsOptions {
  /** The role of requests. Default `rowhouse_app`. */
  readonly role?: string | undefined
  /** Tables without rows of tenants that every tenant may read, such as `['public.countries']`; as SQL names them. */
  readonly sharedTables?: readonly string[] | undefined
}

/** Lints of the server and of the installation, which a test of an application can't mend. */
const UPKEEP: readonly string[] = ['outdated_server', 'outdated_schema', 'changed_object', 'tenant_not_indexed']

/**
 * Reads the catalogs of a database for everything by which one tenant could reach another's rows, or learn about them:
 * tables, partitions and views without protection, weakened policies, keys and foreign keys without the tenant,
 * privileges that policies don't hold for, functions and roles that they don't hold for, a preset tenant. Nobody keeps
 * a list of tables: a new one that was forgotten is found. The lints of `rowhouse.doctor()`, without those of the
 * server and of the installation.
 *
 * Changes nothing. The login needs to be a member of `rowhouse_admin`, as the one that migrates is.
 *
 * SQL: `select * from rowhouse.doctor('rowhouse_app')`
 *
 * Errors: `not_migrated`, `missing_privilege`, `invalid_argument`.
 *
 * @example
 * ```ts
 * const gaps = await findIsolationGaps(connectionString, { sharedTables: ['public.countries'] })
 * if (gaps.length > 0) throw new Error(gaps.map((gap) => `${gap.object}: ${gap.detail}. ${gap.mend}`).join('\n'))
 * ```
 */
export async function findIsolationGaps(
  connection: TestConnection,
  { role, sharedTables }: FindGapsOptions = {},
): Promise<IsolationGap[]> {
  const findings = await onTestConnection(connection, (client) =>
    runDoctor(client, { role, sharedTables, ignore: UPKEEP }),
  )
  return findings.map(({ level, name, table, object, detail, mend }) => ({
    level: level === 'error' ? level : 'warning',
    kind: name,
    table,
    object,
    detail,
    mend,
  }))
}
