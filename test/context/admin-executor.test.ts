import { Log, sql } from 'kysely'
import { beforeAll, expect, test } from 'vitest'
import { createAdminExecutor } from '../../src/context/admin-executor.ts'
import { ConnectionSource } from '../../src/context/connection-source.ts'
import { useDatabase } from '../setup/database.ts'
import type { Role } from '../setup/engine.ts'
import { needs } from '../setup/needs.ts'
import { expectCleanCheckout } from './clean-connection.ts'
import { createFixture } from './fixture.ts'

const database = useDatabase()
beforeAll(() => createFixture(database))

function open(role: Role) {
  const pool = database.pool(role, { max: 1 })
  const source = new ConnectionSource({ pool, owned: false, pipeline: false })
  return { pool, admin: createAdminExecutor(source, new Log([])) }
}

test('runs as rowhouse_admin, in no tenant, one transaction each', async () => {
  const { pool, admin } = open('operator')
  const who = sql<any>`select current_user as role, nullif(current_setting('app.tenant_id'), '') as tenant`
  expect((await who.execute(admin.db)).rows).toEqual([{ role: 'rowhouse_admin', tenant: null }])
  expect((await admin.transaction((db) => who.execute(db))).rows).toEqual([{ role: 'rowhouse_admin', tenant: null }])
  await expectCleanCheckout(pool)
})

test('sees no rows of tenants', needs('realRoles'), async () => {
  const { admin } = open('operator')
  await expect(admin.db.selectFrom('invoices').selectAll().execute()).rejects.toMatchObject({ code: '42501' })
})

test('rolls back when the callback throws', async () => {
  const { pool, admin } = open('operator')
  const failing = admin.transaction(async (db) => {
    await sql`select rowhouse.provision_tenant('never')`.execute(db)
    throw new Error('mine')
  })
  await expect(failing).rejects.toThrow('mine')
  await expectCleanCheckout(pool)
  await expect(sql`select rowhouse.suspend_tenant('never')`.execute(admin.db)).rejects.toMatchObject({
    code: 'tenant_not_found',
  })
})

test('names the grant that is missing', needs('realRoles'), async () => {
  const { pool, admin } = open('app')
  await expect(sql`select 1`.execute(admin.db)).rejects.toMatchObject({
    code: 'missing_privilege',
    message: expect.stringMatching(/run: grant "rowhouse_admin" to "/),
  })
  await expectCleanCheckout(pool)
})
