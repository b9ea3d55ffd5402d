import pg from 'pg'
import type { PoolClient } from './pg-internals.ts'

/** The members of node-postgres' `Connection` that a cancel request needs. */
interface CancelConnection {
  connect(port: number, host: string): void
  requestSsl(): void
  cancel(processId: number, secretKey: number): void
  on(event: 'connect' | 'sslconnect' | 'error' | 'end', listener: () => void): void
  readonly stream: { destroy(): void; unref?(): void }
}

/** A server that does not take the request in this time will not take it at all. */
const TIMEOUT_MS = 2000

/**
 * Asks the server to cancel what the client is running. Resolves when the server has taken the request, or can't.
 *
 * A cancel request of the protocol, not `pg_cancel_backend`: it needs no free connection slot and no login, and it
 * reaches the right backend behind a pooler, which hands out process ids of its own.
 */
export function sendCancelRequest(client: PoolClient): Promise<void> {
  const { processID, secretKey } = client
  if (processID === null || secretKey === null) return Promise.resolve()
  const Connection = pg.Connection as unknown as new (config: object) => CancelConnection
  const connection = new Connection({ ssl: client.ssl, sslNegotiation: client.sslNegotiation })
  return new Promise((resolve) => {
    const finish = () => {
      clearTimeout(timer)
      connection.stream.destroy()
      resolve()
    }
    const timer = setTimeout(finish, TIMEOUT_MS)
    const send = () => connection.cancel(processID, secretKey)
    connection.on('connect', () => {
      if (!client.ssl) send()
      else if (client.sslNegotiation !== 'direct') connection.requestSsl()
    })
    connection.on('sslconnect', send)
    connection.on('error', finish)
    // The server closes the connection once it has signalled the backend.
    connection.on('end', finish)
    if (client.host.startsWith('/')) {
      connection.connect(`${client.host}/.s.PGSQL.${client.port}` as unknown as number, '')
    } else {
      connection.connect(client.port, client.host)
    }
  })
}
