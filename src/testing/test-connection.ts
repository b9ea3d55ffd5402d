import type pg from 'pg'
import { createRowhouseError } from '../errors.ts'
import { connect } from '../migrate/connect.ts'

/** How the checks reach the database: a connection string, or a pool or client of `pg` that the caller ends. */
export type TestConnection = string | pg.Pool | pg.ClientBase

/** Runs `fn` on one connection, and gives back, or ends, what was opened for it. */
export async function onTestConnection<T>(
  connection: TestConnection,
  fn: (client: pg.ClientBase) => Promise<T>,
): Promise<T> {
  if (typeof connection === 'string') {
    const client = await connect(connection)
    try {
      return await fn(client)
    } finally {
      await client.end()
    }
  }
  if (isPool(connection)) {
    const client = await connection.connect()
    let failed = true
    try {
      const result = await fn(client)
      failed = client.getTransactionStatus() !== 'I'
      return result
    } finally {
      client.release(failed)
    }
  }
  if (typeof connection?.query !== 'function') {
    throw createRowhouseError('invalid_argument', 'The connection is no connection string and no pool or client of pg.')
  }
  return fn(connection)
}

function isPool(connection: pg.Pool | pg.ClientBase): connection is pg.Pool {
  return typeof connection === 'object' && connection !== null && 'totalCount' in connection
}
