// P29: a key that is unique over all tenants tells one tenant that another has the value, by an error or by an insert
// that does nothing. Closed: every key starts with the tenant; protect_table reports keys that don't.
import { beforeAll, describe, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { ACME, GLOBEX, protect, useAppTables } from './support/app-tables.ts'
import { useClients } from './support/clients.ts'
import { expectClosed, unlessRefused } from './support/expect-closed.ts'
import { rowsInTenant } from './support/in-tenant.ts'

const database = useDatabase()
useAppTables(database)
const clients = useClients(database, 'owner', 'app')

const globalKey = () => clients.owner.query('create unique index everywhere on coupons (code)')
const ownKeys = () => clients.owner.query('drop index everywhere')

beforeAll(async () => {
  await clients.owner.query(
    'create table coupons (tenant_id text not null, code text not null, primary key (tenant_id, code))',
  )
  await protect(clients.owner, 'coupons')
  await rowsInTenant(clients.app, GLOBEX, "insert into coupons (code) values ('SUMMER')", { commit: true })
})

describe('a tenant learns nothing from a key that another tenant has', () => {
  test('by an error', async () => {
    await expectClosed({
      probe: async () => {
        try {
          await rowsInTenant(clients.app, ACME, "insert into coupons (code) values ('SUMMER')")
          return []
        } catch (error) {
          return [error]
        }
      },
      removeProtection: globalKey,
      restoreProtection: ownKeys,
    })
  })

  test('by an insert that does nothing', async () => {
    await expectClosed({
      probe: async () => {
        const rows = await rowsInTenant(
          clients.app,
          ACME,
          "insert into coupons (code) values ('SUMMER') on conflict do nothing returning code",
        )
        return rows.length === 1 ? [] : ['nothing was inserted']
      },
      removeProtection: globalKey,
      restoreProtection: ownKeys,
    })
  })

  test.each([
    [
      'an upsert that updates',
      `insert into coupons (code) values ('SUMMER') on conflict (%k) do update set code = excluded.code returning code`,
    ],
    [
      'an upsert by the name of no key',
      `with tried as (insert into coupons (code) values ('SUMMER') on conflict do nothing returning code)
        select code from tried`,
    ],
    [
      'a merge that inserts',
      `merge into coupons c using (values ('SUMMER')) s (code) on c.code = s.code
        when not matched then insert (code) values (s.code)`,
    ],
  ])('by %s', async (_form, statement) => {
    let key = 'tenant_id, code'
    await expectClosed({
      probe: async () => {
        try {
          const rows = await rowsInTenant(clients.app, ACME, statement.replace('%k', key))
          return rows.length === 1 || statement.startsWith('merge') ? [] : ['nothing was inserted']
        } catch (error) {
          return [error]
        }
      },
      removeProtection: async () => {
        await globalKey()
        key = 'code'
      },
      restoreProtection: async () => {
        await ownKeys()
        key = 'tenant_id, code'
      },
    })
  })

  test('by an exclusion constraint', async () => {
    const [add, drop] = [
      'alter table coupons add constraint everywhere exclude using btree (code with =)',
      'alter table coupons drop constraint everywhere',
    ]
    await expectClosed({
      probe: () =>
        rowsInTenant(clients.app, ACME, "insert into coupons (code) values ('SUMMER')").then(
          () => [],
          (error) => [error.code],
        ),
      removeProtection: () => clients.owner.query(add),
      restoreProtection: () => clients.owner.query(drop),
    })
  })

  test('by an update into it', async () => {
    await rowsInTenant(clients.app, ACME, "insert into coupons (code) values ('AUTUMN')", { commit: true })
    await expectClosed({
      probe: async () => {
        const update = "update coupons set code = 'SUMMER' where code = 'AUTUMN' returning code"
        return rowsInTenant(clients.app, ACME, update).then(
          () => [],
          (error) => [error],
        )
      },
      removeProtection: globalKey,
      restoreProtection: ownKeys,
    })
  })
})

test('every unique index of a tenant table contains the tenant column, and one that does not is reported', async () => {
  const reported = async () =>
    (await protect(clients.owner, 'coupons')).findings.filter(({ kind }) => kind === 'key_without_tenant')
  const inCatalog = async () => {
    const { rows } = await clients.owner.query(`
      select i.indexrelid::regclass as index from rowhouse.protected_tables p
        join pg_attribute a on a.attrelid = p.relation and a.attname = p.tenant_column
        join pg_index i on i.indrelid = p.relation and (i.indisunique or i.indisexclusion)
        where a.attnum <> all (i.indkey::smallint[])`)
    return rows
  }
  for (const probe of [reported, inCatalog]) {
    await expectClosed({ probe, removeProtection: globalKey, restoreProtection: ownKeys })
  }
})

test("the error of the tenant's own duplicate says nothing about the row", async () => {
  const request = rowsInTenant(clients.app, GLOBEX, "insert into coupons (code) values ('SUMMER')")
  await expect(request).rejects.toMatchObject({ code: '23505', detail: undefined })
  expect(
    await unlessRefused('23505', () =>
      rowsInTenant(clients.app, GLOBEX, "insert into coupons (code) values ('SUMMER')"),
    ),
  ).toEqual([])
})
