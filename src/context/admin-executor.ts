import type { Kysely, Log, TransactionSettings } from 'kysely'
import { sessionConnections } from './connection-providers.ts'
import type { ConnectionSource } from './connection-source.ts'
import { noticeListener, type WorkListener } from './progress.ts'
import { onConnectionsOf } from './query-executor.ts'
import { createSessionIdentity } from './session-identity.ts'
import { singleStatements } from './single-statement.ts'
import { createTenantKysely } from './tenant-kysely.ts'
import { type FollowTenant, TransactionSession } from './transaction-session.ts'

/** The role of operators. */
const ADMIN_ROLE = 'rowhouse_admin'

/**
 * What the modules across tenants run their SQL with: transactions as `rowhouse_admin`, in no tenant. Fails with
 * `missing_privilege` when the login may not act as that role; the message names the grant.
 */
export interface AdminExecutor {
  /** Each statement is a transaction of its own, in one network round trip. */
  readonly db: Kysely<any>
  /** Runs `fn` in one transaction. */
  transaction<T>(fn: (db: Kysely<any>) => Promise<T>, settings?: TransactionSettings): Promise<T>
  /** The same, with a listener for how far long statements are. */
  reporting(onProgress: WorkListener): AdminExecutor
}

/** `follow` finds the database that a tenant moved to, for statements that are refused because of it. */
export function createAdminExecutor(source: ConnectionSource, log: Log, follow?: FollowTenant): AdminExecutor {
  return createRoleExecutor(source, log, ADMIN_ROLE, { follow })
}

interface RoleExecutorOptions {
  readonly follow?: FollowTenant | undefined
  readonly onProgress?: WorkListener | undefined
  /** What holds for every transaction that does not say otherwise. */
  readonly settings?: TransactionSettings | undefined
}

/** The same as another role; undefined: as the login. */
export function createRoleExecutor(
  source: ConnectionSource,
  log: Log,
  role: string | undefined,
  { follow, onProgress, settings }: RoleExecutorOptions = {},
): AdminExecutor {
  const reportsProgress = onProgress !== undefined
  const onNotice = reportsProgress ? noticeListener(onProgress) : undefined
  const identity = createSessionIdentity({ role, reportsProgress }, settings, onNotice)
  const connections = sessionConnections(
    (signal) => new TransactionSession(source, identity, signal, follow),
    CONTEXT(log),
    { keepTraces: false },
  )
  const db = createTenantKysely<any>(
    {
      ...onConnectionsOf(connections),
      ...(follow === undefined ? { executeSingle: singleStatements(source, identity, log) } : {}),
      beforeCompile: (node) => node,
    },
    [],
  )
  return {
    db,
    transaction: (fn, { isolationLevel, accessMode } = {}) => {
      let builder = db.transaction()
      if (isolationLevel !== undefined) builder = builder.setIsolationLevel(isolationLevel)
      if (accessMode !== undefined) builder = builder.setAccessMode(accessMode)
      return builder.execute(fn)
    },
    reporting: (listener) => createRoleExecutor(source, log, role, { follow, settings, onProgress: listener }),
  }
}

const CONTEXT = (log: Log) => ({ log, terminate: async () => {} })
