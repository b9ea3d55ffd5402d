// P28: select, insert, update, delete, merge, upsert, returning, cursors and copy each check policies on a path of their
// own, and bugs were found in most. The matrix: every verb on every table that the application can reach, by catalog.

import type pg from 'pg'
import { beforeAll, describe, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { ACME, canariesOf, GLOBEX, protect, TENANTS, useAppTables } from './support/app-tables.ts'
import { reachableRelations } from './support/catalog.ts'
import { useClients } from './support/clients.ts'
import { inTenant, rowsInTenant, undone } from './support/in-tenant.ts'
import { describeTable, type TableShape } from './support/table-shape.ts'
import { VERBS } from './support/verbs.ts'

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

/** Everything of the other tenant as it is now, to compare: counts and contents, read by that tenant itself. */
async function stateOf(client: pg.ClientBase, tenantId: string): Promise<string> {
  await client.query(`set local app.tenant_id = '${tenantId}'`)
  const parts: string[] = []
  for (const { name } of tables) {
    const { rows } = await client.query(`select t::text as row from ${name} t order by 1`)
    parts.push(`${name}: ${rows.map((row) => row.row).join('; ')}`)
  }
  return parts.join('\n')
}

/** Runs a verb as acme on a table that both tenants have rows in: what it returned or changed of globex. */
async function attack(table: TableShape, verb: (typeof VERBS)[string]): Promise<string[]> {
  return inTenant(clients.app, ACME, async () => {
    const before = await stateOf(clients.app, GLOBEX)
    await clients.app.query(`set local app.tenant_id = '${ACME}'`)
    const found: string[] = []
    await clients.app.query('savepoint attack')
    try {
      for (const statement of verb(table, { own: ACME, other: GLOBEX })) {
        const { rows } = await clients.app.query(statement)
        // Everything that comes back must be acme's, by the tenant column and by the content.
        for (const row of rows ?? []) {
          const text = JSON.stringify(row)
          if (text.includes(GLOBEX)) found.push(text)
        }
      }
    } catch (error) {
      const { code, message, detail, hint } = error as pg.DatabaseError
      await clients.app.query('rollback to savepoint attack')
      if (`${message}${detail}${hint}`.includes(canariesOf(GLOBEX))) found.push(`error: ${message} ${detail} ${hint}`)
      // A refusal is fine: by a policy, by a privilege, by a key of the own row, or where the verb does not exist.
      if (!['42501', '23505', '23514', '23502', '23503', '0A000', '42809', '24000', '21000'].includes(code!))
        throw error
    }
    const after = await stateOf(clients.app, GLOBEX)
    if (after !== before) found.push(`changed: ${after}`)
    return found
  })
}

describe.each(Object.keys(VERBS))('%s', (name) => {
  test('reaches rows of the own tenant only, on every table', async () => {
    expect(tables.map((table) => table.name).sort()).toEqual(
      ['public."odd ""Name"" %s"', 'public.customers', 'public.events', 'public.invoices', 'public.plain'].sort(),
    )
    for (const table of tables) expect(await attack(table, VERBS[name]!), table.name).toEqual([])
  })

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
