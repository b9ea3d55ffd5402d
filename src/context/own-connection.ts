import pg from 'pg'
import type { ConnectionSource } from './connection-source.ts'

/** Runs `fn` on a new connection outside the pool, which may have none left, or whose state must not be met. */
export async function onOwnConnection<T>(source: ConnectionSource, fn: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client(source.clientOptions)
  // The query that runs reports the loss of the connection; without a listener it would end the process.
  client.on('error', () => {})
  try {
    await client.connect()
    return await fn(client)
  } finally {
    await client.end()
  }
}
