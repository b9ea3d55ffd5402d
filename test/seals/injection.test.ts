// What SQL that reached a tenant's transaction can do there: with a plain context it can become another tenant in the
// ways that plain-outcomes.txt lists; with a sealed one in none.
import { sql } from 'kysely'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createRowhouse, type Rowhouse } from '../../src/index.ts'
import { ACME, canariesOf, GLOBEX, useAppTables } from '../isolation/support/app-tables.ts'
import { useClients } from '../isolation/support/clients.ts'
import { inTenant } from '../isolation/support/in-tenant.ts'
import { useDatabase } from '../setup/database.ts'
import { FORGE_SEAL, PAYLOADS, type Payload } from './payloads.ts'

const KEY = 'a key of this test, of 32 bytes or more'

const database = useDatabase({ needs: ['parallelBackends', 'realRoles'] })
useAppTables(database)
const clients = useClients(database, 'owner', 'app')

let operators: Rowhouse
let plain: Rowhouse
let sealed: Rowhouse

beforeAll(async () => {
  operators = createRowhouse({ connectionString: database.url('owner'), poolOptions: { max: 1 } })
  await operators.seals.addKey(KEY)
  plain = createRowhouse({ pool: database.pool('app', { max: 1 }) })
  sealed = createRowhouse({ pool: database.pool('app', { max: 1 }), seal: KEY })
})
afterAll(async () => {
  await Promise.all([operators?.close(), plain?.close(), sealed?.close()])
})

/** Everything that belongs to the other tenant, as it reads it. */
function rowsOfOther(rowhouse: Rowhouse): Promise<string> {
  return rowhouse.withTenant(GLOBEX, async (db) => {
    const { rows } = await sql`select to_jsonb(i) as r from invoices i union all select to_jsonb(e) from events e
      union all select to_jsonb(c) from customers c order by 1`.execute(db)
    return JSON.stringify(rows)
  })
}

/**
 * Runs a payload as one request of acme would, and then reads. `switched`: something of the other tenant was seen or
 * changed. Everything is rolled back, so that payloads don't meet each other.
 */
async function attack(rowhouse: Rowhouse, { statements }: Payload): Promise<string> {
  let outcome = 'no effect'
  const look = (value: unknown) => {
    if (JSON.stringify(value).includes(canariesOf(GLOBEX))) outcome = 'switched'
  }
  const seen: unknown[] = []
  const undo = new Error('undo')
  try {
    await rowhouse.withTenant(ACME, async (db) => {
      for (const statement of statements) {
        const result = await sql.raw(statement).execute(db)
        look(result.rows)
      }
      const { rows } = await sql`select * from invoices`.execute(db)
      look(rows)
      seen.push(rows)
      const planted =
        await sql`update customers set visits = visits + 1 where tenant_id = ${GLOBEX} returning 1`.execute(db)
      if (planted.rows.length > 0) outcome = 'switched'
      throw undo
    })
  } catch (error) {
    if (error === undo) return outcome
    const { message, detail, hint } = error as { message?: string; detail?: string; hint?: string }
    look([message, detail, hint])
    return outcome === 'switched' ? 'switched' : 'refused'
  }
  return outcome
}

test('there are 200 payloads or more, all different', () => {
  expect(PAYLOADS.length).toBeGreaterThanOrEqual(200)
  expect(new Set(PAYLOADS.map(({ name }) => name)).size).toBe(PAYLOADS.length)
  expect(new Set(PAYLOADS.map(({ statements }) => statements.join(';'))).size).toBe(PAYLOADS.length)
})

describe('plain contexts', () => {
  test('each outcome is the documented one', async () => {
    const before = await rowsOfOther(plain)
    const outcomes: string[] = []
    for (const payload of PAYLOADS) outcomes.push(`${await attack(plain, payload)}: ${payload.name}`)
    expect(await rowsOfOther(plain), 'an attack was committed').toBe(before)
    // The negative control of what follows: the same payloads do switch.
    expect(outcomes.filter((outcome) => outcome.startsWith('switched')).length).toBeGreaterThan(100)
    await expect(`${outcomes.toSorted().join('\n')}\n`).toMatchFileSnapshot('./plain-outcomes.txt')
  }, 120_000)
})

describe('sealed contexts', () => {
  beforeAll(async () => {
    await operators.seals.require(true)
  })
  afterAll(async () => {
    await operators.seals.require(false)
  })

  test('no payload switches', async () => {
    const before = await rowsOfOther(sealed)
    expect(before).toContain(canariesOf(GLOBEX))
    const switched: string[] = []
    for (const payload of PAYLOADS) {
      if ((await attack(sealed, payload)) === 'switched') switched.push(payload.name)
    }
    expect(switched).toEqual([])
    expect(await rowsOfOther(sealed)).toBe(before)
  }, 120_000)

  test('nothing that a payload left on the connection helps the next request', async () => {
    for (const payload of PAYLOADS.filter(({ name }) => name.includes('session'))) {
      await attack(sealed, payload)
      const tenants = await sealed.query(ACME, (db) => db.selectFrom('invoices').select('tenant_id').distinct())
      expect(tenants, payload.name).toEqual([{ tenant_id: ACME }])
    }
  })

  test('requests are refused on a login that may become the owner of the secret', async () => {
    const connection = { connectionString: database.url('owner'), seal: KEY, poolOptions: { max: 1 } }
    const careless = createRowhouse(connection)
    await expect(careless.query(ACME, (db) => db.selectFrom('invoices').selectAll())).rejects.toMatchObject({
      code: 'role_not_restricted',
      message: expect.stringMatching(/is or may become .*rowhouse_admin/),
    })
    await careless.close()
    // The control: what that login could do.
    const scripts = createRowhouse({ ...connection, allowPrivilegedLogin: true })
    const outcome = await attack(scripts, { name: 'forge', statements: [FORGE_SEAL] })
    expect(outcome).toBe('switched')
    await scripts.close()
  })

  test('a seal of another transaction is of no use', async () => {
    const seal = await sealed.withTenant(GLOBEX, async (db) => {
      const { rows } = await sql<{ seal: string }>`select current_setting('app.seal') as seal`.execute(db)
      return rows[0]!.seal
    })
    // On the same backend, a moment later.
    const replay = sealed.withTenant(ACME, (db) =>
      sql`select set_config('app.seal', ${seal}, true), set_config('app.tenant_id', ${GLOBEX}, true)`
        .execute(db)
        .then(() => sql`select * from invoices`.execute(db)),
    )
    await expect(replay).rejects.toMatchObject({ code: 'tenant_not_sealed' })
  })

  test('nobody finds a proof in pg_stat_activity', async () => {
    const found = await sealed.withTenant(GLOBEX, async (db) => {
      await sql`select 1`.execute(db)
      const { rows } = await clients.app.query(
        "select query from pg_stat_activity where query ~ '[0-9a-f]{16}\\.[0-9]{13}\\.[0-9a-f]{64}' and pid <> pg_backend_pid()",
      )
      return rows
    })
    expect(found).toEqual([])
  })

  test('a client by SQL alone, without a proof, sees and writes nothing', async () => {
    for (const statement of [
      'select * from invoices',
      "update invoices set note = 'x'",
      'delete from invoices',
      'select rowhouse.enter_tenant()',
    ]) {
      await expect(inTenant(clients.app, ACME, () => clients.app.query(statement))).rejects.toMatchObject({
        code: 'RH007',
      })
    }
    const { rows } = await clients.app.query('select * from rowhouse.seals_required() r')
    expect(rows).toEqual([{ r: true }])
  })
})
