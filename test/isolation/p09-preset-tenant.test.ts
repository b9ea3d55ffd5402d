// P09: a tenant set by ALTER ROLE or ALTER DATABASE ... SET is there from the first statement on, so "no tenant" is not
// "no rows". Closed for the client: every transaction says its tenant, operators say none, whatever was set before.
import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createRowhouse, type Rowhouse } from '../../src/index.ts'
import { withParts } from '../setup/connection.ts'
import { useDatabase } from '../setup/database.ts'
import { ACME, GLOBEX, useAppTables } from './support/app-tables.ts'
import { useClients } from './support/clients.ts'
import { expectClosed } from './support/expect-closed.ts'

const database = useDatabase({ needs: ['parallelBackends', 'realRoles', 'superuser'] })
useAppTables(database)
const clients = useClients(database, 'superuser')
const login = `preset_${randomBytes(4).toString('hex')}`

let pool: pg.Pool
let rowhouse: Rowhouse

// In this database only: others are looked at by other tests meanwhile.
const here = () => `in database ${pg.escapeIdentifier(database.name)}`
const preset = () => clients.superuser.query(`alter role ${login} ${here()} set app.tenant_id = '${GLOBEX}'`)
const notPreset = () => clients.superuser.query(`alter role ${login} ${here()} reset app.tenant_id`)

beforeAll(async () => {
  await clients.superuser.query(`create role ${login} login password 'preset' in role rowhouse_app`)
  await preset()
  pool = new pg.Pool({ connectionString: withParts(database.url('app'), { user: login, password: 'preset' }), max: 1 })
  rowhouse = createRowhouse({ pool })
})
afterAll(async () => {
  await rowhouse?.close()
  await pool?.end()
  await clients.superuser?.query(`drop role ${login}`)
})

test('a preset tenant is not the tenant of a request', async () => {
  const foreign = (rows: { tenant_id: string }[]) => rows.filter((row) => row.tenant_id !== ACME)
  const ours = async () =>
    foreign(await rowhouse.withTenant(ACME, (db) => db.selectFrom('invoices').select('tenant_id').execute()))
  const stock = async () => foreign((await pool.query<{ tenant_id: string }>('select * from invoices')).rows)
  let probe = ours
  await expectClosed({
    probe: () => probe(),
    removeProtection: async () => {
      probe = stock
    },
    restoreProtection: async () => {
      probe = ours
    },
  })
})

test.each([
  ['the options of the connection', `-c app.tenant_id=${GLOBEX}`, ''],
  ['the database', '', `alter database %d set app.tenant_id = '${GLOBEX}'`],
])('nor one that is preset by %s', async (_what, options, statement) => {
  const name = pg.escapeIdentifier(database.name)
  await notPreset()
  if (statement !== '') await clients.superuser.query(statement.replace('%d', name))
  const connectionString = withParts(database.url('app'), { user: login, password: 'preset' })
  const ownPool = new pg.Pool({ connectionString, options, max: 1 })
  const own = createRowhouse({ pool: ownPool })
  try {
    const ours = async () => [
      ...(await own.withTenant(ACME, (db) => db.selectFrom('invoices').select('tenant_id').execute())),
      ...(await own.query(ACME, (db) => db.selectFrom('invoices').select('tenant_id'))),
    ]
    const stock = async () => (await ownPool.query<{ tenant_id: string }>('select * from invoices')).rows
    let ask: () => Promise<{ tenant_id: string }[]> = ours
    await expectClosed({
      probe: async () => (await ask()).filter((row) => row.tenant_id !== ACME),
      removeProtection: async () => {
        ask = stock
      },
      restoreProtection: async () => {
        ask = ours
      },
    })
  } finally {
    await own.close()
    await ownPool.end()
    await clients.superuser.query(`alter database ${name} reset app.tenant_id`)
    await preset()
  }
})

test('rowhouse.query and the complete Kysely say their tenant as well', async () => {
  const seen = await rowhouse.query(ACME, (db) => db.selectFrom('invoices').select('tenant_id').distinct())
  expect(seen).toEqual([{ tenant_id: ACME }])
  const kysely = rowhouse.kysely(ACME)
  expect(await kysely.selectFrom('invoices').select('tenant_id').distinct().execute()).toEqual([{ tenant_id: ACME }])
})

test('the catalog tells of a preset tenant', async () => {
  const name = pg.escapeIdentifier(database.name)
  const presets = async () => {
    const { rows } = await clients.superuser.query(
      `select coalesce(nullif(s.setrole, 0)::regrole::text, 'everybody') as who, setting
         from pg_db_role_setting s, unnest(s.setconfig) setting
         where setting like 'app.%' and s.setrole::regrole::text not like 'preset\\_%'
           and s.setdatabase in (0, (select oid from pg_database where datname = current_database()))`,
    )
    return rows
  }
  await expectClosed({
    probe: presets,
    removeProtection: () => clients.superuser.query(`alter database ${name} set app.tenant_id = '${ACME}'`),
    restoreProtection: () => clients.superuser.query(`alter database ${name} reset app.tenant_id`),
  })
})
