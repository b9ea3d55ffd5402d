import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Rowhouse } from 'rowhouse'
import { expect, test } from 'vitest'
import { openRowhouse } from '../../audit/support.ts'
import type { TestDatabase } from '../../setup/database.ts'
import { HandlerGate } from './limit-routes.ts'
import type { App } from './support.ts'

/** A server is stopped while a request that has reserved something is at work, as deployments do. */
export function describeStop(
  database: TestDatabase,
  open: (rowhouse: Rowhouse, gate: HandlerGate) => Promise<App>,
): void {
  test('a server that stops while a handler runs books what its requests used', async () => {
    // Its own pool, which ends with it.
    const rowhouse = openRowhouse(database, { pool: undefined, connectionString: database.url('app') })
    await rowhouse.tenants.provision('stopped')
    await rowhouse.quotas.define('documents_of_all_time', { metric: 'documents', period: 'total' })
    await rowhouse.quotas.set('stopped', 'documents_of_all_time', { limit: 10 })
    const { key } = await rowhouse.apiKeys.issue('stopped', { name: 'stop' })
    const gate = new HandlerGate()
    const app = await open(rowhouse, gate)
    const cut = fetch(`${app.url}/slow`, { method: 'POST', headers: { 'x-api-key': key } }).catch(
      (error: unknown) => error,
    )
    await once(gate, 'entered')
    await app.close()
    const closed = rowhouse.close()
    // Long enough for a close that doesn't wait.
    await sleep(50)
    gate.emit('open')
    await closed
    expect(await cut).toBeInstanceOf(Error)

    const after = openRowhouse(database)
    const quotas = await after.tenant('stopped').budget.checkQuotas()
    const documents = quotas.find(({ name }) => name === 'documents_of_all_time')
    expect(documents).toMatchObject({ used: 3, reserved: 0 })
    await after.close()
  })
}
