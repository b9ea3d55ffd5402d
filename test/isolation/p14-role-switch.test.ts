// P14: set_config('role', ...) inside a statement switches to any role that the login is a member of, or back to the
// login. Isolation is not built on the role: whatever the application's login can become is subject to the policies.
import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { withParts } from '../setup/connection.ts'
import { useDatabase } from '../setup/database.ts'
import { ACME, useAppTables } from './support/app-tables.ts'
import { useClients } from './support/clients.ts'
import { expectClosed } from './support/expect-closed.ts'
import { inTenant, undone } from './support/in-tenant.ts'

const database = useDatabase({ needs: ['realRoles', 'superuser'] })
useAppTables(database)
const clients = useClients(database, 'superuser')
const id = randomBytes(4).toString('hex')
const [login, exempt] = [`login_${id}`, `exempt_${id}`]

let app: pg.Client

beforeAll(async () => {
  await clients.superuser.query(`
    create role ${login} login password 'login' in role rowhouse_app;
    create role ${exempt} nologin bypassrls;
    grant select on invoices to ${exempt}`)
  app = new pg.Client(withParts(database.url('app'), { user: login, password: 'login' }))
  await app.connect()
})
afterAll(async () => {
  await app?.end()
  await clients.superuser?.query(`drop owned by ${exempt}; drop role ${exempt}; drop role ${login}`)
})

/** As every role of the server that the login can become: rows of other tenants. */
async function foreignRows(): Promise<unknown[]> {
  const { rows: roles } = await app.query("select rolname as name from pg_roles union all select 'none'")
  return inTenant(app, ACME, async () => {
    const found: unknown[] = []
    for (const { name } of roles) {
      await undone(app, async () => {
        await app.query("select set_config('role', $1, true)", [name])
        const { rows } = await app.query('select current_user, tenant_id from invoices where tenant_id <> $1', [ACME])
        found.push(...rows)
      }).catch((error) => {
        // Not a member, or the role may not read the table.
        if (error.code !== '42501' && error.code !== '22023') throw error
      })
    }
    return found
  })
}

test('no role that the login can become sees rows of another tenant', async () => {
  await expectClosed({
    probe: foreignRows,
    removeProtection: () => clients.superuser.query(`grant ${exempt} to ${login}`),
    restoreProtection: () => clients.superuser.query(`revoke ${exempt} from ${login}`),
  })
})

test('the login of an application can become rowhouse_app and no other role of rowhouse', async () => {
  const client = await database.connect('app')
  const { rows } = await client.query(`
    select name from unnest(array['rowhouse_app', 'rowhouse_admin', 'rowhouse_owner']) name
      where pg_has_role(session_user, name, 'member')`)
  expect(rows).toEqual([{ name: 'rowhouse_app' }])
})
