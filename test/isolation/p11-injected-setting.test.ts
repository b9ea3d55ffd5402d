// P11: an injected set_config('app.tenant_id', ...) inside one statement switches the tenant.
// Documented, not closed by a plain context (tier 1): values must be bound. Hardened (tier 2): set_config is revoked,
// and rowhouse works without it. These tests pin both outcomes, so that a change of either is noticed.
import { sql } from 'kysely'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { ACME, GLOBEX, useAppTables } from './support/app-tables.ts'
import { useClients, useOneConnection } from './support/clients.ts'
import { expectClosed, REFUSED, unlessRefused } from './support/expect-closed.ts'
import { rowsInTenant } from './support/in-tenant.ts'

const database = useDatabase()
useAppTables(database)
const clients = useClients(database, 'owner')
const one = useOneConnection(database)

/** Statements that an input could turn a harmless one into; `run` reads the invoices afterwards. */
const INJECTIONS = {
  'a call of set_config': `select note from invoices where set_config('app.tenant_id', '${GLOBEX}', true) is not null`,
  'a materialized part before it': `with switched as materialized (select set_config('app.tenant_id', '${GLOBEX}', true))
    select note from switched, invoices`,
  'a name that comes from a row': `select set_config(name, '${GLOBEX}', true)
    from (values ('app.tenant_id')) settings (name)`,
}

/** Rows of the other tenant that a request sees when an input became part of its SQL. */
const run = (text: string): Promise<unknown[]> =>
  one.rowhouse.withTenant(ACME, async (db) => {
    await sql.raw(text).execute(db)
    return (await foreignRows.execute(db)).rows
  })

// Without the tenant predicate that the client adds to queries of the builder.
const foreignRows = sql`select * from invoices where tenant_id = ${GLOBEX}`

const INPUT = `' or set_config('app.tenant_id', '${GLOBEX}', true) = '${GLOBEX}' or note = '`

test('a bound value is never a statement', async () => {
  const bound = async () => {
    await one.rowhouse.withTenant(ACME, async (db) => {
      seen = []
      await db.selectFrom('invoices').select('note').where('note', '=', INPUT).execute()
      seen = (await foreignRows.execute(db)).rows
    })
    return seen
  }
  let seen: unknown[] = []
  let ask: () => Promise<unknown[]> = bound
  await expectClosed({
    probe: () => ask(),
    removeProtection: async () => {
      ask = () => run(`select note from invoices where note = '${INPUT}'`)
    },
    restoreProtection: async () => {
      ask = bound
    },
  })
})

describe('documented: text that reaches the server as SQL can switch a plain context', () => {
  test('so an application binds its values', async () => {
    expect(await run(INJECTIONS['a call of set_config'])).toHaveLength(9)
  })

  test('the view of the settings is no way: it does not show settings of this kind', async () => {
    expect(await run(`update pg_settings set setting = '${GLOBEX}' where name = 'app.tenant_id'`)).toEqual([])
  })

  test('the switch ends with the transaction', async () => {
    await run(`select set_config('app.tenant_id', '${GLOBEX}', false)`)
    const seen = await one.rowhouse.query(ACME, (db) => db.selectFrom('invoices').select('tenant_id').distinct())
    expect(seen).toEqual([{ tenant_id: ACME }])
  })
})

// set_config belongs to the database, so revoking it in this one touches no other.
describe('hardened: set_config is revoked', needs('superuser', 'realRoles'), () => {
  const hardened = useClients(database, 'superuser')
  const revoke = () =>
    hardened.superuser.query('revoke execute on function pg_catalog.set_config(text, text, boolean) from public')
  const grant = () =>
    hardened.superuser.query('grant execute on function pg_catalog.set_config(text, text, boolean) to public')
  beforeAll(revoke)
  afterAll(grant)

  test.each(Object.keys(INJECTIONS) as (keyof typeof INJECTIONS)[])('an injection is refused: %s', async (name) => {
    await expectClosed({
      probe: () => unlessRefused(REFUSED, () => run(INJECTIONS[name])),
      removeProtection: grant,
      restoreProtection: revoke,
    })
  })

  test('rowhouse works on a hardened server', async () => {
    const seen = await one.rowhouse.query(ACME, (db) => db.selectFrom('invoices').select('tenant_id').distinct())
    expect(seen).toEqual([{ tenant_id: ACME }])
    const byOperator = await rowsInTenant(
      clients.owner,
      null,
      "select tenant_id from rowhouse.provision_tenant('initech')",
      {
        role: 'rowhouse_admin',
      },
    )
    expect(byOperator).toEqual([{ tenant_id: 'initech' }])
  })
})
