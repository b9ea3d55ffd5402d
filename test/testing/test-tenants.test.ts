// createTestTenant and withTestTenants: tenants that are there for a test, and gone after it.
import { expect, test } from 'vitest'
import { createRowhouse } from '../../src/index.ts'
import { createTestTenant, withTestTenants } from '../../src/testing/index.ts'
import { useAppTables } from '../isolation/support/app-tables.ts'
import { useClients } from '../isolation/support/clients.ts'
import { useDatabase } from '../setup/database.ts'

const database = useDatabase()
useAppTables(database)
const clients = useClients(database, 'owner')

const open = () => createRowhouse({ pool: database.pool('owner', { max: 2 }) })
const insert = (db: any) => db.insertInto('events').values({ id: 1, kind: 'test', payload: '{}' }).execute()
const statusOf = async (rowhouse: ReturnType<typeof open>, tenantId: string) =>
  (await rowhouse.tenants.get(tenantId))?.status

test('tenants are provisioned, keep their rows apart, and are erased', async () => {
  await using rowhouse = open()
  const ids = await withTestTenants(rowhouse, 2, async ([one, two]) => {
    await rowhouse.withTenant(one, insert)
    expect(await rowhouse.query(one, (db) => db.selectFrom('events').selectAll())).toHaveLength(1)
    expect(await rowhouse.query(two, (db) => db.selectFrom('events').selectAll())).toEqual([])
    return [one, two]
  })
  for (const id of ids) expect(await statusOf(rowhouse, id)).toBe('erased')
})

test('tenants are erased after a failure as well, which is the error', async () => {
  await using rowhouse = open()
  let id = ''
  const failing = withTestTenants(rowhouse, 1, async ([tenantId]) => {
    id = tenantId
    await rowhouse.withTenant(tenantId, insert)
    throw new Error('the test failed')
  })
  await expect(failing).rejects.toThrow('the test failed')
  expect(await statusOf(rowhouse, id)).toBe('erased')
})

test('rows in a table that rowhouse does not know of fail the test', async () => {
  await using rowhouse = open()
  await clients.owner.query('create table forgotten (tenant_id text)')
  const remember = (id: string) => clients.owner.query('insert into forgotten values ($1)', [id])
  await expect(withTestTenants(rowhouse, 1, async ([id]) => remember(id))).rejects.toMatchObject({
    code: 'unregistered_table',
  })
  const both = withTestTenants(rowhouse, 1, async ([id]) => {
    await remember(id)
    throw new Error('the test failed')
  })
  await expect(both).rejects.toMatchObject({
    errors: [{ message: 'the test failed' }, { code: 'unregistered_table' }],
  })
  await clients.owner.query('drop table forgotten')
})

test('an id of the type of the tenant column, and options of the tenant', async () => {
  await using rowhouse = open()
  for (const [columnType, shape] of [
    ['uuid', /^[0-9a-f]{8}-/],
    ['integer', /^\d{10}$/],
    ['bigint', /^\d{13,15}$/],
  ] as const) {
    await using tenant = await createTestTenant(rowhouse, { columnType, tier: 'enterprise' })
    expect(tenant.tenantId).toMatch(shape)
    const { rows } = await clients.owner.query(`select $1::${columnType}::text as text`, [tenant.tenantId])
    expect(rows[0].text).toBe(tenant.tenantId)
    expect(await rowhouse.tenants.get(tenant.tenantId)).toMatchObject({ tier: 'enterprise' })
  }
})

test('a tenant that exists is never erased', async () => {
  await using rowhouse = open()
  await expect(createTestTenant(rowhouse, { tenantId: 'acme' })).rejects.toMatchObject({ code: 'invalid_argument' })
  expect(await statusOf(rowhouse, 'acme')).toBe('active')
  const tenant = await createTestTenant(rowhouse)
  await tenant.erase()
  await tenant.erase()
  expect(await statusOf(rowhouse, tenant.tenantId)).toBe('erased')
  await expect(withTestTenants(rowhouse, 0, async () => {})).rejects.toMatchObject({ code: 'invalid_argument' })
})
