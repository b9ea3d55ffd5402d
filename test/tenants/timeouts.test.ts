// Timeouts by tier and tenant: they come with the transaction, in no round trip of their own, and go with it.
import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'kysely'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createRowhouse, type Rowhouse } from '../../src/index.ts'
import { ACME, GLOBEX, useRowhouse } from '../audit/support.ts'
import { rowsInTenant } from '../isolation/support/in-tenant.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { startProxy } from '../setup/proxy.ts'

const database = useDatabase()
const fixture = useRowhouse(database)
let rowhouse: Rowhouse
beforeAll(() => {
  rowhouse = fixture.rowhouse
})

/** What holds in a transaction of the tenant: of a statement, of a lock, idle. */
async function settings(tenant: string, of: Rowhouse = rowhouse): Promise<string[]> {
  const [row] = await of.query(
    tenant,
    () => sql<Record<string, string>>`
    select current_setting('statement_timeout') as a, current_setting('lock_timeout') as b,
      current_setting('idle_in_transaction_session_timeout') as c`,
  )
  return Object.values(row!)
}

describe('which timeouts hold', () => {
  const NONE = ['0', '0', '0']

  test('none, until there are some; those of the tier, else of all tiers; its own instead of each', async () => {
    expect(await settings(ACME)).toEqual(NONE)
    await rowhouse.timeouts.setDefault('*', { lockMs: 7000 })
    expect(await settings(ACME)).toEqual(['0', '7s', '0'])
    await rowhouse.timeouts.setDefault('free', { statementMs: 5000, idleInTransactionMs: 30_000 })
    expect(await settings(ACME)).toEqual(['5s', '0', '30s'])
    await rowhouse.timeouts.set(ACME, { statementMs: 60_000, lockMs: 1500 })
    expect(await settings(ACME)).toEqual(['1min', '1500ms', '30s'])
    expect(await settings(GLOBEX)).toEqual(['5s', '0', '30s'])
    await rowhouse.tenants.setTier(ACME, 'enterprise')
    expect(await settings(ACME)).toEqual(['1min', '1500ms', '0'])
    await rowhouse.timeouts.set(ACME, null)
    expect(await settings(ACME)).toEqual(['0', '7s', '0'])
    await rowhouse.tenants.provision('born-later')
    expect(await settings('born-later')).toEqual(['5s', '0', '30s'])
    await rowhouse.timeouts.setDefault('free', null)
    await rowhouse.timeouts.setDefault('*', null)
    for (const tenant of [ACME, GLOBEX, 'born-later']) expect(await settings(tenant)).toEqual(NONE)
  })

  test("they end with the transaction, and are no other tenant's on the same connection", async () => {
    await rowhouse.timeouts.set(ACME, { statementMs: 1234 })
    const own = createRowhouse({ pool: database.pool('app', { max: 1 }) })
    expect(await settings(ACME, own)).toEqual(['1234ms', '0', '0'])
    expect(await settings(GLOBEX, own)).toEqual(NONE)
    await own.close()
    expect(
      await rowsInTenant(
        fixture.app,
        ACME,
        "select rowhouse.enter_tenant(), current_setting('statement_timeout') as of",
      ),
    ).toMatchObject([{ of: '1234ms' }])
    expect((await fixture.app.query("select current_setting('statement_timeout') as of")).rows).toEqual([{ of: '0' }])
    await rowhouse.timeouts.set(ACME, null)
  })

  test('a tenant provisioned meanwhile gets what the operator sets', needs('parallelBackends'), async () => {
    const [first, second] = [await database.connect('operator'), await database.connect('operator')]
    await first.query("begin; set local role rowhouse_admin; select rowhouse.set_tier_timeouts('racing', 4000)")
    const provisioned = second.query(
      "begin; set local role rowhouse_admin; select rowhouse.provision_tenant('racer', null, 'racing'); commit",
    )
    await sleep(100)
    await first.query('commit')
    await provisioned
    expect(await settings('racer')).toEqual(['4s', '0', '0'])
  })
})

describe('what they do', () => {
  beforeAll(async () => {
    const owner = await database.connect('owner')
    await owner.query(`create table things (tenant_id text not null, id int, primary key (tenant_id, id));
      select rowhouse.protect_table('things')`)
    await rowhouse.reload()
    await rowhouse.timeouts.set(ACME, { statementMs: 300, lockMs: 150, idleInTransactionMs: 300 })
    await rowhouse.withTenant(ACME, (db) => db.insertInto('things').values({ id: 1 }).execute())
  })
  afterAll(() => rowhouse.timeouts.set(ACME, null))

  const slow = (tenant: string) => rowhouse.query(tenant, () => sql`select pg_sleep(0.6)`)

  test('a statement that takes too long is cancelled', needs('parallelBackends'), async () => {
    await expect(slow(ACME)).rejects.toMatchObject({ code: '57014' })
    await expect(rowhouse.withTenant(ACME, (db) => sql`select pg_sleep(0.6)`.execute(db))).rejects.toMatchObject({
      code: '57014',
    })
  })

  test('the control: of a tenant without timeouts it is not', async () => {
    expect(await slow(GLOBEX)).toHaveLength(1)
  })

  test('a lock is not waited for any longer', needs('parallelBackends'), async () => {
    const { app } = fixture
    const take = 'select from things where id = 1 for update'
    await app.query(`begin; set local role rowhouse_app; set local app.tenant_id = '${ACME}'; ${take}`)
    await expect(rowhouse.query(ACME, () => sql.raw(take))).rejects.toMatchObject({ code: '55P03' })
    await app.query('commit')
  })

  test(
    'who is idle in a transaction loses the connection, and nobody else does',
    needs('parallelBackends'),
    async () => {
      await expect(
        rowhouse.withTenant(ACME, async (db) => {
          await sql`insert into things (id) values (2)`.execute(db)
          await sleep(600)
          await sql`select 1`.execute(db)
        }),
      ).rejects.toThrow()
      expect(await rowhouse.query(ACME, (db) => db.selectFrom('things').select('id'))).toEqual([{ id: 1 }])
    },
  )

  test('a limit for well-behaved code: SQL of the tenant may raise its own', async () => {
    const raised = rowhouse.withTenant(ACME, async (db) => {
      await sql`set local statement_timeout = 0`.execute(db)
      return (await sql`select pg_sleep(0.4)`.execute(db)).rows.length
    })
    expect(await raised).toBe(1)
  })

  test('they take no round trip', needs('parallelBackends'), async () => {
    await using proxy = await startProxy(database.url('app'))
    // One connection: opening another one ahead would count too.
    const own = createRowhouse({ connectionString: proxy.url, poolOptions: { max: 1 } })
    const flights = async (tenant: string) => {
      await own.query(tenant, () => sql`select 1`)
      const before = proxy.counters.flights
      await own.query(tenant, () => sql`select 1`)
      return proxy.counters.flights - before
    }
    expect(await flights(ACME)).toBe(await flights(GLOBEX))
    await own.close()
  })
})

test.each([
  ['0', { statementMs: 0 }, 'The timeouts: statementMs is less than 1.'],
  ['a fraction', { lockMs: 1.5 }, 'The timeouts: lockMs is not a whole number.'],
  ['another name', { transactionMs: 5 }, 'The timeouts unrecognized key: "transactionMs".'],
])('refused: %s', async (_, timeouts, message) => {
  await expect(rowhouse.timeouts.set(ACME, timeouts as never)).rejects.toMatchObject({
    code: 'invalid_argument',
    message,
  })
  await expect(rowhouse.timeouts.setDefault('free', timeouts as never)).rejects.toMatchObject({ message })
})

test('refused: tiers and tenants that are none, and the application', async () => {
  await expect(rowhouse.timeouts.setDefault('No', {})).rejects.toMatchObject({ code: 'invalid_argument' })
  await expect(rowhouse.timeouts.set('nobody', {})).rejects.toMatchObject({ code: 'tenant_not_found' })
  const denied = (statement: string) =>
    expect(rowsInTenant(fixture.app, ACME, statement)).rejects.toMatchObject({ code: '42501' })
  await denied("select rowhouse.set_tenant_timeouts('acme', 1)")
  await denied('select * from rowhouse.tier_timeouts')
})
