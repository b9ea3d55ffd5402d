// Tenants share the sequence of a serial column. An import moves it on behind the numbers of its rows, never so far that
// nothing would be left for the others.
import type pg from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Rowhouse } from '../../src/index.ts'
import { openRowhouse } from '../audit/support.ts'
import { failure, protect } from '../protect/support.ts'
import { useDatabase } from '../setup/database.ts'
import { exportToMemory, streamOf } from './support.ts'

const database = useDatabase()
let owner: pg.Client
let rowhouse: Rowhouse
beforeAll(async () => {
  owner = await database.connect('owner')
  await owner.query('create table orders (tenant_id text not null, id serial, body text, primary key (tenant_id, id))')
  await protect(owner, 'orders')
  rowhouse = openRowhouse(database)
})
afterAll(() => rowhouse.close())

/** The archive of a tenant with one order of this number. */
async function archiveWith(tenantId: string, id: number): Promise<Buffer> {
  await rowhouse.tenants.provision(tenantId)
  await rowhouse.withTenant(tenantId, (db) => db.insertInto('orders').values({ id, body: 'one' }).execute())
  return (await exportToMemory(rowhouse, tenantId)).data
}

const lastNumber = async () => Number((await owner.query('select last_value from orders_id_seq')).rows[0].last_value)

test('goes on behind the numbers of the imported rows', async () => {
  await rowhouse.tenants.import(streamOf(await archiveWith('near', 500)), { as: 'near-copy' })
  expect(await lastNumber()).toBe(500)
  await rowhouse.withTenant('near-copy', (db) => db.insertInto('orders').values({ body: 'two' }).execute())
  expect(await lastNumber()).toBe(501)
})

test('an archive that would use it up is refused, and moves nothing', async () => {
  const before = await lastNumber()
  const archive = await archiveWith('far', 2_147_483_000)
  const error = await failure(rowhouse.tenants.import(streamOf(archive), { as: 'far-copy' }))
  expect(error).toMatchObject({
    code: 'import_refused',
    message: expect.stringContaining('use up sequence public.orders_id_seq'),
  })
  expect(await lastNumber()).toBe(before)
  expect(await rowhouse.tenants.get('far-copy')).toBeUndefined()
})
