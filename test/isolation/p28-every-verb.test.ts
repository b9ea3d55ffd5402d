// P28: select, insert, update, delete, merge, upsert, returning, cursors and copy each check policies on a path of their
// own, and bugs were found in most. The matrix: every verb on every table that the application can reach, by catalog.
import { beforeAll, describe, expect, test } from 'vitest'
import { createEnterTenant, runAttempt, stateOf } from '../../src/testing/attempt.ts'
import { describeTable, type TableShape } from '../../src/testing/table-shape.ts'
import { VERBS } from '../../src/testing/verbs.ts'
import { useDatabase } from '../setup/database.ts'
import { ACME, canariesOf, GLOBEX, protect, TENANTS, useAppTables } from './support/app-tables.ts'
import { useClients } from './support/clients.ts'
import { inTenant, rowsInTenant, undone } from './support/in-tenant.ts'
import { reachableRelations } from './support/reachable-relations.ts'

const database = useDatabase()
useAppTables(database)
const clients = useClients(database, 'owner', 'app')
const tables: TableShape[] = []

beforeAll(async () => {
  await clients.owner.query(`
    create table public.plain (tenant_id varchar(64) not null, id int not null, note text, primary key (tenant_id, id));
    create table public."odd ""Name"" %s" (tenant_id text not null, "the ""Id""" int not null, primary key (tenant_id, "the ""Id"""))`)
  await protect(clients.owner, 'public.plain')
  await protect(clients.owner, 'public."odd ""Name"" %s"')
  for (const [index, tenantId] of TENANTS.entries()) {
    // One key that both have, and one that only this tenant has.
    for (const id of [1, 2 + index]) {
      const note = `${canariesOf(tenantId)}plain`
      await rowsInTenant(clients.app, tenantId, `insert into plain (id, note) values (${id}, '${note}')`, {
        commit: true,
      })
      await rowsInTenant(clients.app, tenantId, `insert into "odd ""Name"" %s" values (default, ${id})`, {
        commit: true,
      })
    }
  }
  for (const { name, schema, kind } of await reachableRelations(clients.owner)) {
    if (schema === 'public' && kind !== 'S') tables.push(await describeTable(clients.owner, name))
  }
})

/**
 * Refusals that are fine: by a policy, by a privilege, by a key of the own row, or where the verb does not exist. Any
 * other error would mean that the statement never reached the table.
 */
const REFUSALS = ['42501', '23505', '23514', '23502', '23503', '0A000', '42809', '24000', '21000']

/** Runs a verb as acme on a table that both tenants have rows in: what it returned or changed of globex. */
async function attack(table: TableShape, verb: (typeof VERBS)[string]): Promise<readonly string[]> {
  return inTenant(clients.app, ACME, async () => {
    const enter = createEnterTenant(clients.app, undefined)
    const { evidence, refusal } = await runAttempt(clients.app, {
      enter,
      statements: verb(table, { own: ACME, other: GLOBEX }),
      own: ACME,
      other: GLOBEX,
      canaries: [GLOBEX],
      watched: tables,
      before: await stateOf(clients.app, enter, GLOBEX, tables),
    })
    if (refusal !== undefined && !REFUSALS.includes(refusal.code!)) throw refusal
    return evidence
  })
}

/** A row of no tenant can't be in a table whose key has the tenant: prove-isolation.test.ts has their control. */
const hasControl = (name: string) => !name.endsWith(' for no tenant') && !name.endsWith(' to no tenant')

describe.each(Object.keys(VERBS))('%s', (name) => {
  test('reaches rows of the own tenant only, on every table', async () => {
    expect(tables.map((table) => table.name).sort()).toEqual(
      ['public."odd ""Name"" %s"', 'public.customers', 'public.events', 'public.invoices', 'public.plain'].sort(),
    )
    for (const table of tables) expect(await attack(table, VERBS[name]!), table.name).toEqual([])
  })

  if (!hasControl(name)) return
  test('reaches rows of the other tenant when the policies are gone: the negative control', async () => {
    const leaks: string[] = []
    for (const table of tables) {
      await clients.owner.query(`alter table ${table.name} disable row level security;
        grant truncate, update on ${table.name} to rowhouse_app`)
      try {
        leaks.push(...(await attack(table, VERBS[name]!)))
      } finally {
        await protect(clients.owner, table.name)
      }
    }
    expect(leaks.length).toBeGreaterThan(0)
    for (const table of tables) expect(await attack(table, VERBS[name]!), table.name).toEqual([])
  })
})

test('a savepoint that is rolled back leaves the context as it was', async () => {
  await inTenant(clients.app, ACME, async () => {
    await undone(clients.app, () => clients.app.query(`set local app.tenant_id = '${GLOBEX}'`))
    const { rows } = await clients.app.query('select distinct tenant_id from plain')
    expect(rows).toEqual([{ tenant_id: ACME }])
  })
})
