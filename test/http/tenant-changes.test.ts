import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, expect, test } from 'vitest'
import { createTenantRequestResolver, fromHeader } from '../../src/http/index.ts'
import type { Rowhouse } from '../../src/index.ts'
import { ACME, openRowhouse, useRowhouse } from '../audit/support.ts'
import { useDatabase } from '../setup/database.ts'
import { startProxy } from '../setup/proxy.ts'

const database = useDatabase({ needs: ['parallelBackends'] })
const fixture = useRowhouse(database)
const opened: Rowhouse[] = []
afterEach(async () => {
  for (const rowhouse of opened.splice(0)) await rowhouse.close()
})

/** A process of its own, as far as rowhouse can tell. */
function open(options = {}): Rowhouse {
  const rowhouse = openRowhouse(database, options)
  opened.push(rowhouse)
  return rowhouse
}

const asTenant = (tenantId: string) => new Request('https://x/', { headers: { 'x-tenant-id': tenantId } })
const OPTIONS = { resolve: fromHeader(), trustUnauthenticated: ['header'], listen: true } as const

/** Resolves once the process hears changes. */
async function hear(rowhouse: Rowhouse): Promise<void> {
  await new Promise<void>((resolve) => {
    rowhouse.watchTenants({ changed: () => {}, listening: resolve })
  })
}

test('a suspension is heard in another process within 100 ms', async () => {
  const rowhouse = open()
  const resolve = createTenantRequestResolver(rowhouse, OPTIONS)
  await hear(rowhouse)
  await resolve(asTenant(ACME))
  const delays: number[] = []
  // The fastest of some: the machine may be busy with other files.
  for (const tenantId of ['heard-1', 'heard-2', 'heard-3', 'heard-4', 'heard-5']) {
    await fixture.rowhouse.tenants.provision(tenantId)
    await resolve(asTenant(tenantId))
    await fixture.rowhouse.tenants.suspend(tenantId)
    const begun = performance.now()
    const refused = () =>
      resolve(asTenant(tenantId)).then(
        () => false,
        (error) => error.code === 'tenant_suspended',
      )
    while (!(await refused()) && performance.now() - begun < 2000) await delay(1)
    delays.push(performance.now() - begun)
  }
  expect(Math.min(...delays)).toBeLessThan(100)
  expect(Math.max(...delays)).toBeLessThan(2000)
  expect(await resolve(asTenant(ACME))).toMatchObject({ tenantId: ACME })
})

test('the control: without listening the tenant is remembered', async () => {
  const resolve = createTenantRequestResolver(open(), { ...OPTIONS, listen: false, cacheMs: 60_000 })
  await fixture.rowhouse.tenants.provision('unheard')
  await resolve(asTenant('unheard'))
  await fixture.rowhouse.tenants.suspend('unheard')
  await delay(200)
  expect(await resolve(asTenant('unheard'))).toMatchObject({ tenantId: 'unheard' })
})

test('who listens learns no id, and every change of the status', async () => {
  const client = await database.connect('app')
  const payloads: string[] = []
  client.on('notification', ({ payload }) => payloads.push(payload!))
  await client.query('listen rowhouse_tenants')
  const { tenants } = fixture.rowhouse
  await tenants.provision('secret-name')
  await tenants.setTier('secret-name', 'pro')
  await tenants.suspend('secret-name')
  await tenants.resume('secret-name')
  await tenants.erase('secret-name')
  // Suspended, active, erasing, erased.
  await expect.poll(() => payloads.length, { timeout: 5000 }).toBe(4)
  expect(payloads.every((payload) => /^[0-9a-f]{32}$/.test(payload))).toBe(true)
})

test('while the connection is lost nothing is remembered for long, and it is opened again', async () => {
  await using proxy = await startProxy(database.url('app'))
  const rowhouse = open({ pool: database.pool('app', { connectionString: proxy.url, max: 2 }) })
  const states: string[] = []
  rowhouse.watchTenants({
    changed: () => states.push('changed'),
    lost: () => states.push('lost'),
    listening: () => states.push('listening'),
  })
  await expect.poll(() => states, { timeout: 5000 }).toEqual(['listening'])
  const resolve = createTenantRequestResolver(rowhouse, OPTIONS)
  await fixture.rowhouse.tenants.provision('lost')
  await resolve(asTenant('lost'))
  proxy.cut()
  await expect.poll(() => states, { timeout: 5000 }).toEqual(['listening', 'lost'])
  await fixture.rowhouse.tenants.suspend('lost')
  await expect.poll(() => states, { timeout: 5000 }).toEqual(['listening', 'lost', 'listening'])
  await expect(resolve(asTenant('lost'))).rejects.toMatchObject({ code: 'tenant_suspended' })
})

test('a forged notification makes a process look again, and nothing else', async () => {
  const rowhouse = open()
  const resolve = createTenantRequestResolver(rowhouse, OPTIONS)
  await hear(rowhouse)
  await resolve(asTenant(ACME))
  const client = await database.connect('app')
  await client.query("notify rowhouse_tenants, 'nonsense'; notify rowhouse_tenants")
  await delay(50)
  expect(await resolve(asTenant(ACME))).toMatchObject({ tenantId: ACME })
})

test('the connection ends with the last listener', async () => {
  const rowhouse = open()
  const connections = async () => {
    const { rows } = await fixture.operator.query(
      "select from pg_stat_activity where datname = current_database() and application_name = 'rowhouse notifications'",
    )
    return rows.length
  }
  expect(await connections()).toBe(0)
  const stops = [1, 2].map(() => rowhouse.watchTenants({ changed: () => {} }))
  await expect.poll(connections, { timeout: 5000 }).toBe(1)
  for (const stop of stops) stop()
  await expect.poll(connections, { timeout: 5000 }).toBe(0)
})

test('what is no listener is refused at once', () => {
  const rowhouse = open()
  for (const wrong of [undefined, null, 'acme', {}, { changed: true }, () => {}]) {
    expect(() => rowhouse.watchTenants(wrong as never)).toThrow(expect.objectContaining({ code: 'invalid_argument' }))
  }
})
