// Two ids that are two tenants to the registry must never be one tenant to a table: casts accept several spellings of a
// number or a UUID, collations take letters for the same, types cut off or add spaces. Closed: an id stands for a value
// only in the spelling that Postgres prints, and only by bytes.
import { beforeAll, describe, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { protect, provision } from './support/app-tables.ts'
import { useClients, useOneConnection } from './support/clients.ts'
import { expectClosed, unlessRefused } from './support/expect-closed.ts'
import { rowsInTenant } from './support/in-tenant.ts'

const database = useDatabase()
const clients = useClients(database, 'owner', 'app', 'operator')
const one = useOneConnection(database)

/** A tenant for each type of column, and other tenants whose ids are close to it. */
const ALIASES = {
  integer: { tenant: '7', aliases: ['07', '007', '-7', '0x7', '0X7', '0b111', '0o7', '7_', '_7'] },
  bigint: { tenant: '1000', aliases: ['01000', '1_000', '1_0_0_0', '0x3e8', '0x3E8', '0b1111101000'] },
  uuid: {
    tenant: 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
    aliases: [
      'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11',
      'a0eebc999c0b4ef8bb6d6bb9bd380a11',
      'a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11',
      'a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11',
      'A0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
    ],
  },
  text: { tenant: 'acme', aliases: ['ACME', 'Acme', 'acme-', 'acm', 'acme_', '-acme', 'acme1'] },
  'character varying': { tenant: 'acme', aliases: ['ACME', 'acme-', 'acme1'] },
  'character varying(8)': { tenant: 'umbrella', aliases: ['umbrella1', 'umbrell', 'UMBRELLA'] },
} as const
type ColumnType = keyof typeof ALIASES
const TYPES = Object.keys(ALIASES) as ColumnType[]
const tableOf = (type: ColumnType) => `rows_of_${type.replaceAll(/\W+/g, '_').replace(/_$/, '')}`

/** No value of the type, or of another length: nothing is found, and nothing can be written. */
const NO_SUCH_VALUE = ['22P02', '22003', '22001']

beforeAll(async () => {
  const ids = new Set(Object.values(ALIASES).flatMap(({ tenant, aliases }) => [tenant, ...aliases]))
  await provision(clients.operator, ...ids)
  for (const type of TYPES) {
    await clients.owner.query(
      `create table ${tableOf(type)} (tenant_id ${type} not null, id int not null, primary key (tenant_id, id))`,
    )
    await protect(clients.owner, tableOf(type))
    await rowsInTenant(clients.app, ALIASES[type].tenant, `insert into ${tableOf(type)} (id) values (1)`, {
      commit: true,
    })
  }
})

/** What every alias reads, changes, or writes of the tenant, by SQL. */
async function reached(type: ColumnType): Promise<unknown[]> {
  const table = tableOf(type)
  const found: unknown[] = []
  for (const alias of ALIASES[type].aliases) {
    for (const attack of [
      `select tenant_id::text from ${table}`,
      `update ${table} set id = id returning tenant_id::text`,
      `delete from ${table} returning tenant_id::text`,
      `select tenant_id::text from ${table} for update`,
      `insert into ${table} (tenant_id, id) values ('${ALIASES[type].tenant}', 2) returning tenant_id::text`,
      `insert into ${table} (id) values (3) returning case when tenant_id::text = '${alias}' then null else tenant_id::text end as tenant_id`,
    ]) {
      const rows = await unlessRefused([...NO_SUCH_VALUE, '42501'], () => rowsInTenant(clients.app, alias, attack))
      found.push(...rows.filter((row) => row.tenant_id !== null).map((row) => `${alias}: ${attack}: ${row.tenant_id}`))
    }
  }
  return found
}

describe.each(TYPES)('a tenant column of type %s', (type) => {
  test('holds no row of a tenant whose id is another spelling', async () => {
    const numeric = type === 'integer' || type === 'bigint' || type === 'uuid'
    const setting = "nullif(current_setting('app.tenant_id', true), '')"
    const loose = numeric ? `tenant_id = ${setting}::${type}` : `lower(tenant_id) = lower(${setting})`
    await expectClosed({
      probe: () => reached(type),
      removeProtection: () =>
        clients.owner.query(`
          alter policy rowhouse_tenant on ${tableOf(type)} using (${loose}) with check (${loose});
          alter policy rowhouse_isolation on ${tableOf(type)} using (${loose}) with check (${loose})`),
      restoreProtection: () => protect(clients.owner, tableOf(type)),
    })
  })

  test('the same by the client, with the tenant predicate and without', async () => {
    for (const alias of ALIASES[type].aliases) {
      for (const build of [
        (db: any) => db.selectFrom(tableOf(type)).selectAll(),
        (db: any) => db.withoutPlugins().selectFrom(tableOf(type)).selectAll(),
      ]) {
        expect(await unlessRefused(NO_SUCH_VALUE, () => one.rowhouse.query(alias, build))).toEqual([])
      }
    }
    expect(
      await one.rowhouse.query(ALIASES[type].tenant, (db) => db.selectFrom(tableOf(type)).selectAll()),
    ).toHaveLength(1)
  })

  test('erasing a tenant with another spelling erases nothing of this one', async () => {
    const count = async () =>
      (await rowsInTenant(clients.app, ALIASES[type].tenant, `select count(*)::int as rows from ${tableOf(type)}`))[0]
        .rows
    const before = await count()
    for (const alias of ALIASES[type].aliases) {
      const [{ receipt }] = await rowsInTenant(
        clients.operator,
        null,
        `select rowhouse.erase_tenant('${alias}') as receipt`,
        {
          role: 'rowhouse_admin',
        },
      )
      expect(receipt.tables[`public.${tableOf(type)}`] ?? 0, alias).toBe(0)
    }
    expect(await count()).toBe(before)
    expect(before).toBe(1)
  })
})

test('a collation that takes two ids for the same is refused', async () => {
  await clients.owner.query(
    "create collation no_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
  )
  await clients.owner.query('create table loose (tenant_id text collate no_case not null, id int)')
  await expect(protect(clients.owner, 'loose')).rejects.toMatchObject({ code: 'RH010' })
})

test('a protected column can not be given such a collation, or another type, later', async () => {
  for (const change of ['type text collate no_case', 'type char(10)', 'type citext']) {
    const alter = clients.owner.query(`alter table rows_of_text alter column tenant_id ${change}`)
    // 0A000: the column is used in a policy. 42704: there is no such type here.
    await expect(alter).rejects.toMatchObject({ code: expect.stringMatching(/0A000|42704/) })
  }
})

test.each(['char(10)', 'name', 'numeric', 'smallint', 'double precision', 'jsonb', 'bytea', 'text[]'])(
  'a tenant column of type %s, which pads, cuts off or compares loosely, is refused',
  async (type) => {
    const table = `refused_${type.replaceAll(/\W+/g, '_')}`
    await clients.owner.query(`create table ${table} (tenant_id ${type} not null, id int)`)
    await expect(protect(clients.owner, table)).rejects.toMatchObject({ code: 'RH010' })
  },
)

/** Ids that a client could send instead of a valid one. */
const MALFORMED = [
  ' acme',
  'acme ',
  'acme\n',
  '\tacme',
  'acme\u00a0',
  'acmé',
  'ac\u0301me',
  '\u0430cme',
  'acme\u200b',
  'acme%',
  'ac*',
  "acme'",
  'acme"',
  'acme;',
  'acme\\',
  '{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}',
  '',
  'a'.repeat(65),
  'acme,globex',
  'a/../b',
  '\u{1F3E0}',
]

describe('malformed ids', () => {
  test.each(MALFORMED)('%j is refused by the registry, by the context and by the client', async (id) => {
    const provisioned = rowsInTenant(clients.operator, null, 'select rowhouse.provision_tenant($1)', {
      role: 'rowhouse_admin',
      values: [id],
    })
    await expect(provisioned).rejects.toMatchObject({ code: 'RH006' })
    const entered = rowsInTenant(clients.app, id, 'select rowhouse.enter_tenant()')
    await expect(entered).rejects.toMatchObject({ code: id === '' ? 'RH001' : 'RH006' })
    await expect(one.rowhouse.withTenant(id, async () => 1)).rejects.toMatchObject({ code: 'invalid_tenant_id' })
    expect(await rowsInTenant(clients.app, id, 'select * from rows_of_text')).toEqual([])
  })

  test('the name of the setting is the same in every spelling, so that no second one shadows it', async () => {
    for (const name of ['APP.TENANT_ID', 'App.Tenant_Id', '"app"."tenant_id"', '"APP.TENANT_ID"']) {
      const rows = await rowsInTenant(clients.app, 'acme', "select current_setting('app.tenant_id') as tenant")
      expect(rows).toEqual([{ tenant: 'acme' }])
      await clients.app.query(`begin; set local app.tenant_id = 'acme'; set local ${name} = 'acm'`)
      const { rows: after } = await clients.app.query("select current_setting('app.tenant_id') as tenant")
      await clients.app.query('rollback')
      expect(after).toEqual([{ tenant: 'acm' }])
    }
  })
})
