// P01: after "set local" and commit a setting reads '' instead of null, so a cast to uuid fails on a used connection,
// and without missing_ok the read fails on a fresh one. Closed: policies and functions take both for "no tenant".
import { beforeAll, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { ACME, protect, useAppTables } from './support/app-tables.ts'
import { useClients } from './support/clients.ts'
import { expectClosed } from './support/expect-closed.ts'
import { rowsInTenant } from './support/in-tenant.ts'

const database = useDatabase()
useAppTables(database)
const clients = useClients(database, 'owner')

beforeAll(async () => {
  for (const type of ['uuid', 'integer']) {
    await clients.owner.query(
      `create table ${type}_notes (tenant_id ${type} not null, id int, primary key (tenant_id, id))`,
    )
    await protect(clients.owner, `${type}_notes`)
  }
})

/** A connection that never had a tenant, one that had, and one that was cleaned by the server. */
const PAST = {
  fresh: [],
  used: [`begin; set local app.tenant_id = '${ACME}'; commit`],
  discarded: [`set app.tenant_id = '${ACME}'`, 'discard all'],
}

const ASKED = {
  'select count(*)::int as answer from invoices': 0,
  'select count(*)::int as answer from uuid_notes': 0,
  'select count(*)::int as answer from integer_notes': 0,
  'select rowhouse.current_tenant() as answer': null,
  'select rowhouse.require_tenant() as answer': 'RH001',
  "insert into events (id, kind, payload) values (1, '', '{}') returning 1 as answer": 'RH001',
  'insert into uuid_notes (id) values (1) returning 1 as answer': 'RH001',
}

async function surprises(): Promise<string[]> {
  const found: string[] = []
  for (const [past, prepare] of Object.entries(PAST)) {
    for (const [sql, expected] of Object.entries(ASKED)) {
      const client = await database.connect('app')
      for (const statement of prepare) await client.query(statement)
      const answer = await rowsInTenant(client, null, sql).then(
        (rows) => rows[0].answer,
        (error) => error.code,
      )
      if (answer !== expected) found.push(`${past}: ${sql}: ${answer}`)
      await client.end()
    }
  }
  return found
}

test(
  'a connection without a tenant answers the same, whatever it was used for before',
  needs('parallelBackends'),
  async () => {
    await expectClosed({
      probe: surprises,
      removeProtection: () =>
        clients.owner.query(`
        alter policy rowhouse_tenant on uuid_notes using (tenant_id = current_setting('app.tenant_id')::uuid);
        alter policy rowhouse_isolation on uuid_notes using (tenant_id = current_setting('app.tenant_id')::uuid)`),
      restoreProtection: () => protect(clients.owner, 'uuid_notes'),
    })
  },
)

test("a row of the tenant '' can't exist, which every used connection would see", async () => {
  const insert = () =>
    rowsInTenant(clients.owner, null, "insert into events (tenant_id, id, kind, payload) values ('', 1, '', '{}')", {
      role: 'rowhouse_app',
    })
  await clients.owner.query("set app.tenant_id = ''")
  await expectClosed({
    probe: async () => {
      try {
        await insert()
        return ['the row was written']
      } catch (error) {
        const { code } = error as { code: string }
        if (code !== '23514') throw error
        return []
      }
    },
    removeProtection: () => clients.owner.query('alter table events drop constraint rowhouse_tenant_present'),
    restoreProtection: () => protect(clients.owner, 'events'),
  })
  expect((await clients.owner.query('select from pg_constraint where not convalidated')).rowCount).toBe(0)
})
