// P15: owners, superusers and roles with BYPASSRLS are not subject to row-level security.
// Closed: policies are forced, so an owner is; and the client refuses to work as a role that policies don't hold for.
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createRowhouse } from '../../src/index.ts'
import { withParts } from '../setup/connection.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { ACME, protect, useAppTables } from './support/app-tables.ts'
import { useClients } from './support/clients.ts'
import { expectClosed } from './support/expect-closed.ts'
import { rowsInTenant } from './support/in-tenant.ts'

const database = useDatabase()
useAppTables(database)
const clients = useClients(database, 'owner')

describe('the owner of a table', needs('realRoles'), () => {
  const foreign = async () => {
    const { rows } = await clients.owner.query('select current_user as owner')
    return rowsInTenant(clients.owner, ACME, `select tenant_id from invoices where tenant_id <> '${ACME}'`, {
      role: rows[0].owner,
    })
  }

  test('sees the rows of the tenant only', async () => {
    await expectClosed({
      probe: foreign,
      removeProtection: () => clients.owner.query('alter table invoices no force row level security'),
      restoreProtection: () => protect(clients.owner, 'invoices'),
    })
  })
})

describe('the start-up check', needs('superuser', 'realRoles'), () => {
  const admin = useClients(database, 'superuser')
  const id = randomBytes(4).toString('hex')
  const [bypass, stranger] = [`bypass_${id}`, `stranger_${id}`]

  beforeAll(async () => {
    await admin.superuser.query(`
      create role ${bypass} login password 'login' bypassrls in role rowhouse_app;
      create role ${stranger} login password 'login' in role rowhouse_app`)
  })
  afterAll(async () => {
    await admin.superuser?.query(`drop role ${bypass}; drop role ${stranger}`)
  })

  const start = async (url: string, role?: null) => {
    await using rowhouse = createRowhouse({ connectionString: url, ...(role === null ? { role } : {}) })
    return await rowhouse.withTenant(ACME, (db) =>
      db.selectFrom('invoices').selectAll().where('tenant_id', '<>', ACME).execute(),
    )
  }
  const login = (user: string) => withParts(database.url('app'), { user, password: 'login' })

  test('documented: pg_read_all_data reads every table, and of each the rows of the tenant only', async () => {
    await admin.superuser.query(`grant pg_read_all_data to ${stranger}`)
    const foreign = () =>
      rowsInTenant(admin.superuser, ACME, `select tenant_id from invoices where tenant_id <> '${ACME}'`, {
        role: stranger,
      })
    await expectClosed({
      probe: foreign,
      removeProtection: () => admin.superuser.query(`alter role ${stranger} bypassrls`),
      restoreProtection: () => admin.superuser.query(`alter role ${stranger} nobypassrls`),
    })
    await admin.superuser.query(`revoke pg_read_all_data from ${stranger}`)
  })

  test('refuses a superuser that keeps its own role', async () => {
    await expect(start(database.url('superuser'), null)).rejects.toMatchObject({ code: 'role_not_restricted' })
  })

  test('refuses a login with BYPASSRLS that keeps its own role', async () => {
    await expect(start(login(bypass), null)).rejects.toMatchObject({ code: 'role_not_restricted' })
  })

  test('accepts both when their transactions run as rowhouse_app', async () => {
    expect(await start(database.url('superuser'))).toEqual([])
    expect(await start(login(bypass))).toEqual([])
  })

  test('refuses when row-level security of a registered table is off, and says which table', async () => {
    const refusal = () =>
      start(login(stranger)).then(
        () => ['started'],
        (error) => {
          expect(error).toMatchObject({
            code: 'role_not_restricted',
            message: expect.stringContaining('public.invoices'),
          })
          return []
        },
      )
    expect(await refusal()).toEqual(['started'])
    await clients.owner.query('alter table invoices disable row level security')
    expect(await refusal()).toEqual([])
    await protect(clients.owner, 'invoices')
    expect(await start(login(stranger))).toEqual([])
  })

  test('does not change that a superuser sees everything: keep it away from requests', async () => {
    const { rows } = await admin.superuser.query('select distinct tenant_id from invoices order by 1')
    expect(rows).toEqual([{ tenant_id: 'acme' }, { tenant_id: 'globex' }])
  })
})
