// A sealed transaction can read its own seal. It must not pass for the one of functions that hold the tenant's lock.
import { randomBytes } from 'node:crypto'
import { sql } from 'kysely'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createRowhouse, type Rowhouse } from '../../src/index.ts'
import { useDatabase } from '../setup/database.ts'

const database = useDatabase({ needs: ['parallelBackends'] })
const key = randomBytes(32)
let operator: Rowhouse
let sealed: Rowhouse
beforeAll(async () => {
  operator = createRowhouse({ connectionString: database.url('owner') })
  sealed = createRowhouse({ connectionString: database.url('app'), seal: key })
  await operator.seals.addKey(key)
})
afterAll(async () => {
  await sealed.close()
  await operator.close()
})

test.each(['on', 'its own seal'])(
  'a tenant that was suspended meanwhile writes nothing, whatever it claims: %s',
  async (claim) => {
    const id = `t${randomBytes(4).toString('hex')}`
    await operator.tenants.provision(id)
    const write = sql`insert into rowhouse.state (key, value) values ('late', '1')`
    const late = sealed.withTenant(id, async (db) => {
      const { rows } = await sql<{ seal: string }>`select current_setting('app.seal') as seal`.execute(db)
      expect(rows[0]!.seal).not.toBe('')
      await operator.tenants.suspend(id)
      await sql`select set_config('app.work_seal', current_setting('app.seal'), true),
        set_config('rowhouse.holds_tenant_lock', ${claim === 'on' ? 'on' : rows[0]!.seal}, true)`.execute(db)
      await write.execute(db)
    })
    await expect(late).rejects.toMatchObject({ code: 'tenant_suspended' })
    // The control: the same transaction writes while the tenant is active.
    await operator.tenants.resume(id)
    await sealed.withTenant(id, (db) => write.execute(db))
  },
)
