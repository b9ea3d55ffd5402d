import type { Client, ClientBase } from 'pg'
import { createRowhouseError } from '../errors.ts'
import { connect } from './connect.ts'

/** What the migrator works on: a server to connect to, or a connected client, which is handed back as it came. */
export type MigrationConnection =
  | {
      /** A PostgreSQL URL. The login owns the database or has the rights of its owner, and CREATEROLE at first. */
      readonly connectionString: string
    }
  | {
      /** A connected client that is not inside a transaction. Its role and settings are the same afterwards. */
      readonly client: ClientBase
    }

/** Lends the work a client and takes it back, whatever happens. */
export async function withClient<T>(
  connection: MigrationConnection,
  work: (client: ClientBase) => Promise<T>,
): Promise<T> {
  if ('client' in connection) return withGivenClient(connection.client, work)
  const client: Client = await connect(connection.connectionString)
  try {
    return await work(client)
  } finally {
    await client.end().catch(() => {})
  }
}

async function withGivenClient<T>(client: ClientBase, work: (client: ClientBase) => Promise<T>): Promise<T> {
  const status = client.getTransactionStatus()
  if (status === 'T' || status === 'E') {
    throw createRowhouseError('invalid_argument', 'The client given to migrate is inside a transaction.', {
      hint: 'Commit first, or give migrate a connection string.',
    })
  }
  const ignoreError = () => {}
  client.on('error', ignoreError)
  try {
    return await work(client)
  } finally {
    client.off('error', ignoreError)
  }
}
