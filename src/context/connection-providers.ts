import type { AbortableOperationOptions, ConnectionProvider, DatabaseConnection } from 'kysely'
import { type AmbientTenant, getAmbientTenant, isAmbientTenant, runWithAmbientTenant } from './current-tenant.ts'
import type { ConnectionContext } from './database-connection.ts'
import { ScopeConnection } from './scope-connection.ts'
import { SessionConnection } from './session-connection.ts'
import type { TransactionSession } from './transaction-session.ts'

type Consumer<T> = (connection: DatabaseConnection) => Promise<T>

/** Connections of a pool, each with a session of its own. */
export function sessionConnections(
  createSession: (signal: AbortSignal | undefined) => TransactionSession,
  context: ConnectionContext,
  options: { keepTraces: boolean },
): ConnectionProvider {
  return {
    async provideConnection<T>(consumer: Consumer<T>, { signal }: AbortableOperationOptions = {}): Promise<T> {
      const connection = new SessionConnection(createSession(signal), context, options)
      try {
        return await consumer(connection)
      } finally {
        await connection.release()
      }
    },
  }
}

/**
 * Connections inside the callback of a `withTenant` call. They are no connections of their own: all of them run on the
 * one of the transaction.
 */
export function scopeConnections(home: AmbientTenant, context: ConnectionContext): ConnectionProvider {
  return {
    async provideConnection<T>(consumer: Consumer<T>): Promise<T> {
      // Code inside a nested transaction that uses an outer handle joins the nested one: waiting for it would never end.
      const caller = getAmbientTenant()
      const scope = caller?.scope.isWithin(home.scope) ? caller.scope : home.scope
      const inside: { ambient: AmbientTenant | undefined } = { ambient: undefined }
      const connection = new ScopeConnection(scope, home.options, context, () => isAmbientTenant(inside.ambient))
      inside.ambient = {
        tenantId: home.tenantId,
        source: home.source,
        options: home.options,
        get scope() {
          return connection.scope
        },
      }
      return runWithAmbientTenant(inside.ambient, () => consumer(connection))
    },
  }
}
