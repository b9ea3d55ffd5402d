import {
  type AbortableOperationOptions,
  type AbortableQueryOptions,
  type CompiledQuery,
  type ConnectionProvider,
  DefaultQueryExecutor,
  type KyselyPlugin,
  PostgresAdapter,
  PostgresQueryCompiler,
  type QueryId,
  type QueryResult,
  type RootOperationNode,
} from 'kysely'
import type { TenantDatabaseConnection } from './database-connection.ts'

/** What a query executor is made of. */
export interface QueryExecutorParts {
  /** Runs a single statement that nothing aborts. */
  readonly executeSingle: (query: CompiledQuery) => Promise<QueryResult<unknown>>
  /** Connections for a single statement. */
  readonly statements: ConnectionProvider
  /** Connections for several statements: transactions and `connection()`. */
  readonly connections: ConnectionProvider
  /** The last change to a query before it becomes SQL, when all names are those of the database. */
  readonly beforeCompile: (node: RootOperationNode) => RootOperationNode
}

/** Shared by all handles: the compiler keeps state only while it compiles, which is synchronous. */
const compiler = new PostgresQueryCompiler()
const adapter = new PostgresAdapter()

/** Kysely's own query executor, which also knows whether a connection is for one statement or for several. */
export class TenantQueryExecutor extends DefaultQueryExecutor {
  readonly #parts: QueryExecutorParts
  readonly #statements: DefaultQueryExecutor

  constructor(parts: QueryExecutorParts, plugins: readonly KyselyPlugin[] = []) {
    super(compiler, adapter, parts.connections, [...plugins])
    this.#parts = parts
    this.#statements = new DefaultQueryExecutor(compiler, adapter, parts.statements, [...plugins])
  }

  // Not in transformQuery, which runs for every subquery by itself too, without the CTEs around it.
  override compileQuery(node: RootOperationNode, queryId: QueryId): CompiledQuery {
    return super.compileQuery(this.#parts.beforeCompile(node), queryId)
  }

  override async executeQuery<R>(query: CompiledQuery, options?: AbortableQueryOptions): Promise<QueryResult<R>> {
    if (options?.signal !== undefined) return this.#statements.executeQuery(query, options)
    let result = (await this.#parts.executeSingle(query)) as QueryResult<any>
    for (const plugin of this.plugins) result = await plugin.transformResult({ queryId: query.queryId, result })
    return result
  }

  override stream<R>(
    query: CompiledQuery,
    chunkSize: number,
    options?: AbortableOperationOptions,
  ): AsyncIterableIterator<QueryResult<R>> {
    return this.#statements.stream(query, chunkSize, options)
  }

  /** A connection for one statement, for a caller that aborts it in its own way. */
  provideStatementConnection<T>(
    consumer: (connection: TenantDatabaseConnection) => Promise<T>,
    options: AbortableOperationOptions,
  ): Promise<T> {
    return this.#parts.statements.provideConnection(
      (connection) => consumer(connection as TenantDatabaseConnection),
      options,
    )
  }

  override withConnectionProvider(provider: ConnectionProvider): TenantQueryExecutor {
    return new TenantQueryExecutor({ ...this.#parts, ...onConnectionsOf(provider) }, this.plugins)
  }

  override withPlugin(plugin: KyselyPlugin): TenantQueryExecutor {
    return new TenantQueryExecutor(this.#parts, [...this.plugins, plugin])
  }

  override withPlugins(plugins: readonly KyselyPlugin[]): TenantQueryExecutor {
    return new TenantQueryExecutor(this.#parts, [...this.plugins, ...plugins])
  }

  override withPluginAtFront(plugin: KyselyPlugin): TenantQueryExecutor {
    return new TenantQueryExecutor(this.#parts, [plugin, ...this.plugins])
  }

  override withoutPlugins(): TenantQueryExecutor {
    return new TenantQueryExecutor(this.#parts)
  }
}

/** Runs everything on connections of one provider. */
export function onConnectionsOf(provider: ConnectionProvider): Omit<QueryExecutorParts, 'beforeCompile'> {
  return {
    executeSingle: (query) => provider.provideConnection((connection) => connection.executeQuery<unknown>(query)),
    statements: provider,
    connections: provider,
  }
}
